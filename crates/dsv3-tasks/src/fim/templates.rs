//! Small functions with holes.
//!
//! `{f}` is the function, `{a}` and `{b}` its arguments, `{v}` a variable, `{i}` a loop's variable,
//! `{n}` a constant, `{s}` a word, `{t}` a type. What stands between `«` and `»` may be the hole:
//! it follows from what stands around it. A leading space belongs to the hole or not, by chance.

/// A function.
pub(crate) struct Template {
    /// Names for `{f}` that tell what the function does.
    pub(crate) functions: &'static [&'static str],
    /// The text.
    pub(crate) body: &'static str,
}

const fn template(functions: &'static [&'static str], body: &'static str) -> Template {
    Template { functions, body }
}

const SUM: &[&str] = &["add", "plus", "add_two", "get_sum"];
const DIFFERENCE: &[&str] = &["subtract", "minus", "get_difference"];
const PRODUCT: &[&str] = &["multiply", "times", "get_product", "get_area"];
const RATIO: &[&str] = &["divide", "get_ratio", "share"];
const SUM_ALL: &[&str] = &["sum_all", "add_all", "get_total"];
const COUNT: &[&str] = &["count", "count_all", "count_items"];
const PRODUCT_ALL: &[&str] = &["multiply_all", "product_of_all"];
const LARGER: &[&str] = &["larger", "maximum", "get_larger"];
const SMALLER: &[&str] = &["smaller", "minimum", "get_smaller"];
const EVEN: &[&str] = &["is_even", "even"];
const ODD: &[&str] = &["is_odd", "odd"];
const SQUARE: &[&str] = &["square", "get_square"];
const POSITIVE: &[&str] = &["positive", "without_sign", "absolute"];
const ANY: &[&str] = &["run", "change", "apply", "convert", "compute", "update"];
const GET: &[&str] = &["get", "read", "find", "lookup"];

/// All of them: Python first, then Rust. Ids name a template by its place, so a new one goes to the
/// end.
pub(crate) const TEMPLATES: &[Template] = &[
    template(SUM, "def {f}({a},« {b}»):\n    return« {a} + {b}»\n"),
    template(DIFFERENCE, "def {f}({a},« {b}»):\n    return« {a} - {b}»\n"),
    template(PRODUCT, "def {f}({a},« {b}»):\n    return« {a} * {b}»\n"),
    template(RATIO, "def {f}({a},« {b}»):\n    return« {a} / {b}»\n"),
    template(
        SUM,
        "def {f}({a}, {b}):\n    {v} =« {a} + {b}»\n    return« {v}»\n",
    ),
    template(
        DIFFERENCE,
        "def {f}({a}, {b}):\n    {v} =« {a} - {b}»\n    return« {v}»\n",
    ),
    template(
        PRODUCT,
        "def {f}({a}, {b}):\n    {v} =« {a} * {b}»\n    return« {v}»\n",
    ),
    template(
        ANY,
        "def {f}({a}):\n    # add {n}\n    return« {a} + {n}»\n",
    ),
    template(
        ANY,
        "def {f}({a}):\n    # times {n}\n    return« {a} * {n}»\n",
    ),
    template(
        ANY,
        "def {f}({a}):\n    # minus {n}\n    return« {a} - {n}»\n",
    ),
    template(
        ANY,
        "def {f}({a}):\n    # divisible by {n}\n    return« {a} % {n} == 0»\n",
    ),
    template(
        ANY,
        "def {f}({a}):\n    # keep what is above {n}\n    return [{i} for {i} in {a} if« {i} > {n}»]\n",
    ),
    template(
        ANY,
        "def {f}({a}):\n    # keep what is below {n}\n    return [{i} for {i} in {a} if« {i} < {n}»]\n",
    ),
    template(
        SUM_ALL,
        "def {f}({a}):\n    {v} =« 0»\n    for {i} in« {a}»:\n        {v} +=« {i}»\n    return« {v}»\n",
    ),
    template(
        SUM_ALL,
        "def {f}({a}):\n    {v} = 0\n«    for {i} in {a}:\n»        {v} += {i}\n    return {v}\n",
    ),
    template(
        COUNT,
        "def {f}({a}):\n    {v} =« 0»\n    for {i} in {a}:\n        {v} +=« 1»\n    return« {v}»\n",
    ),
    template(
        PRODUCT_ALL,
        "def {f}({a}):\n    {v} =« 1»\n    for {i} in {a}:\n        {v} *=« {i}»\n    return« {v}»\n",
    ),
    template(
        LARGER,
        "def {f}({a}, {b}):\n    if« {a} > {b}»:\n        return« {a}»\n    return« {b}»\n",
    ),
    template(
        SMALLER,
        "def {f}({a}, {b}):\n    if« {a} < {b}»:\n        return« {a}»\n    return« {b}»\n",
    ),
    template(EVEN, "def {f}({a}):\n    return« {a} % 2 == 0»\n"),
    template(ODD, "def {f}({a}):\n    return« {a} % 2 == 1»\n"),
    template(SQUARE, "def {f}({a}):\n    return« {a} * {a}»\n"),
    template(
        POSITIVE,
        "def {f}({a}):\n    if {a} <« 0»:\n        return« -{a}»\n    return« {a}»\n",
    ),
    template(
        &["clamp", "limit", "keep_between"],
        "def {f}({a}, low, high):\n    if {a} < low:\n        return« low»\n    if {a} >« high»:\n        return high\n    return« {a}»\n",
    ),
    template(
        &["average", "mean", "get_average"],
        "def {f}({a}):\n    return« sum({a}) / len({a})»\n",
    ),
    template(
        &["to_fahrenheit", "celsius_to_fahrenheit"],
        "def {f}({a}):\n    return« {a} * 9 / 5 + 32»\n",
    ),
    template(
        &["to_celsius", "fahrenheit_to_celsius"],
        "def {f}({a}):\n    return« ({a} - 32) * 5 / 9»\n",
    ),
    template(
        &["length", "size", "get_length"],
        "def {f}({a}):\n    return« len({a})»\n",
    ),
    template(
        &["first", "get_first", "first_of"],
        "def {f}({a}):\n    return {a}«[0]»\n",
    ),
    template(
        &["last", "get_last", "last_of"],
        "def {f}({a}):\n    return {a}«[-1]»\n",
    ),
    template(
        &["greet", "say", "call_out"],
        "def {f}({a}):\n    return \"{s} \" +« {a}»\n",
    ),
    template(
        GET,
        "def {f}({a}):\n    # the {s}\n    return {a}«[\"{s}\"]»\n",
    ),
    template(
        GET,
        "def {f}({a}, {b}):\n    if {b} in {a}:\n        return« {a}[{b}]»\n    return« None»\n",
    ),
    template(
        &["count_down", "down_to_zero"],
        "def {f}({a}):\n    while {a} > 0:\n        print({a})\n        {a} -=« 1»\n",
    ),
    template(
        ANY,
        "def {f}({a}, {b}):\n    print({a}, {b})\n\n{f}«({n}, {m})» # {n} and {m}\n",
    ),
    template(
        ANY,
        "class {t}:\n    def __init__(self, {a}, {b}):\n        self.{a} =« {a}»\n«        self.{b} = {b}\n»\n    def {f}(self):\n        return self.{a} + self.{b}\n",
    ),
    template(
        SUM,
        "fn {f}({a}: i32, {b}:« i32») -> i32 {\n   « {a} + {b}»\n}\n",
    ),
    template(
        DIFFERENCE,
        "fn {f}({a}: i32, {b}: i32) -> i32 {\n   « {a} - {b}»\n}\n",
    ),
    template(
        PRODUCT,
        "fn {f}({a}: i32, {b}: i32) -> i32 {\n   « {a} * {b}»\n}\n",
    ),
    template(
        ANY,
        "// Adds {n}.\nfn {f}({a}: i32) -> i32 {\n   « {a} + {n}»\n}\n",
    ),
    template(
        ANY,
        "// Multiplies by {n}.\nfn {f}({a}: i32) -> i32 {\n   « {a} * {n}»\n}\n",
    ),
    template(
        EVEN,
        "fn {f}({a}: i32) ->« bool» {\n   « {a} % 2 == 0»\n}\n",
    ),
    template(ODD, "fn {f}({a}: i32) ->« bool» {\n   « {a} % 2 == 1»\n}\n"),
    template(SQUARE, "fn {f}({a}: i32) -> i32 {\n   « {a} * {a}»\n}\n"),
    template(
        LARGER,
        "fn {f}({a}: i32, {b}: i32) -> i32 {\n    if {a} > {b} {\n       « {a}»\n    } else {\n       « {b}»\n    }\n}\n",
    ),
    template(
        SMALLER,
        "fn {f}({a}: i32, {b}: i32) -> i32 {\n    if {a} < {b} {\n       « {a}»\n    } else {\n       « {b}»\n    }\n}\n",
    ),
    template(
        SUM_ALL,
        "fn {f}({a}: &[i32]) -> i32 {\n    let mut {v} =« 0»;\n    for {i} in« {a}» {\n        {v} +=« {i}»;\n    }\n   « {v}»\n}\n",
    ),
    template(
        COUNT,
        "fn {f}({a}: &[i32]) -> i32 {\n    let mut {v} = 0;\n    for _ in {a} {\n        {v} +=« 1»;\n    }\n   « {v}»\n}\n",
    ),
    template(
        SUM,
        "struct {t} {\n    {a}: i32,\n    {b}: i32,\n}\n\nimpl {t} {\n    fn {f}(&self) -> i32 {\n        self.{a} +« self.{b}»\n    }\n}\n",
    ),
];
