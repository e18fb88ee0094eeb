//! JSON as Python's `json.dumps(value, ensure_ascii=False)` writes it: the form in which V3.1 saw
//! tool schemas and arguments (Hugging Face's `tojson`).

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::Formatter;

/// Writes a value with `", "` and `": "` between, non-ASCII kept, floats as Python shows them.
pub fn dumps(value: &Value) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, PythonStyle);
    // Neither the writer (memory) nor the value (all keys are strings) can fail.
    if value.serialize(&mut serializer).is_err() {
        debug_assert!(false, "a JSON value was not serialised");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

struct PythonStyle;

impl Formatter for PythonStyle {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.begin_array_value(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        // Rust and Python both show the shortest digits and change to exponents at 1e16 and
        // below 1e-4; only the exponent looks different: 1e-5 against 1e-05.
        let shown = format!("{value:?}");
        match shown.split_once('e') {
            None => writer.write_all(shown.as_bytes()),
            Some((digits, exponent)) => {
                let (sign, exponent) = match exponent.strip_prefix('-') {
                    Some(exponent) => ('-', exponent),
                    None => ('+', exponent),
                };
                write!(writer, "{digits}e{sign}{exponent:0>2}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Breaks if the style drifts from json.dumps. The right-hand sides were printed by
    // CPython 3.11 for the same values.
    #[test]
    fn dumps_writes_what_python_writes() {
        for (json, python) in [
            (
                r#"{"a":1,"b":[1,2,{"c":null}]}"#,
                r#"{"a": 1, "b": [1, 2, {"c": null}]}"#,
            ),
            (r#"{"b":1,"a":[]}"#, r#"{"b": 1, "a": []}"#),
            ("{}", "{}"),
            (
                r#""é你\u2028\u007f\u0001\n\"\\/""#,
                "\"é你\u{2028}\u{7f}\\u0001\\n\\\"\\\\/\"",
            ),
            (
                "[1.0,0.1,1e15,1e16,1.5e300,0.0001,0.00001,1.25e-7,-0.0,18446744073709551615]",
                "[1.0, 0.1, 1000000000000000.0, 1e+16, 1.5e+300, 0.0001, 1e-05, 1.25e-07, -0.0, 18446744073709551615]",
            ),
            ("[true,false]", "[true, false]"),
        ] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(dumps(&value), python);
        }
    }
}
