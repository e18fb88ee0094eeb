//! A few tools that really run, to show what calling tools is: a calculator, a clock, a number at
//! random. They read nothing and change nothing.

mod calculator;
mod clock;

use dsv3_tokenizer::{Tool, ToolCall, dumps};
use serde_json::{Map, Value, json};

/// The tools, and what their answers depend on besides their arguments.
#[derive(Debug)]
pub(crate) struct DemoTools {
    /// Of the numbers at random.
    seed: u64,
    drawn: u64,
}

/// What a tool could not do, in words that the model can pass on.
type Refusal = String;

impl DemoTools {
    /// Tools whose random numbers follow from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        DemoTools { seed, drawn: 0 }
    }

    /// How the model is told of them.
    pub(crate) fn described() -> Vec<Tool> {
        let tool = |name: &str, description: &str, properties: Value, required: &[&str]| Tool {
            name: name.to_owned(),
            description: Some(description.to_owned()),
            parameters: Some(json!({
                "type": "object", "properties": properties, "required": required,
            })),
        };
        vec![
            tool(
                "compute_sum",
                "Gives the result of an expression.",
                json!({"expression": {"type": "string"}}),
                &["expression"],
            ),
            tool(
                "get_local_time",
                "Tells what time it is in a town.",
                json!({"town": {"type": "string"}}),
                &["town"],
            ),
            tool(
                "create_number",
                "Picks a random number.",
                json!({"low": {"type": "integer"}, "high": {"type": "integer"}}),
                &["low", "high"],
            ),
        ]
    }

    /// Run a call. The result is a JSON object; where the call can't be run, one with `error`.
    pub(crate) fn run(&mut self, call: &ToolCall) -> String {
        let (key, value) = match self.result(call) {
            Ok((key, value)) => (key, value),
            Err(refusal) => ("error", refusal.into()),
        };
        dumps(&Value::Object(Map::from_iter([(key.to_owned(), value)])))
    }

    fn result(&mut self, call: &ToolCall) -> Result<(&'static str, Value), Refusal> {
        let arguments: Value = serde_json::from_str(&call.arguments)
            .map_err(|_| "the arguments are not JSON".to_owned())?;
        let text = |name: &str| match arguments.get(name) {
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(format!("{name} is not a text")),
            None => Err(format!("{name} is missing")),
        };
        let integer = |name: &str| match arguments.get(name) {
            Some(value) => value
                .as_i64()
                .ok_or_else(|| format!("{name} is not a whole number")),
            None => Err(format!("{name} is missing")),
        };
        match call.name.as_str() {
            "compute_sum" => {
                let value = calculator::evaluate(text("expression")?)?;
                Ok(("result", value))
            }
            "get_local_time" => Ok(("time", clock::time_in(text("town")?)?.into())),
            "create_number" => {
                let (low, high) = (integer("low")?, integer("high")?);
                let number = self.number(low, high).ok_or("low is above high")?;
                Ok(("number", number.into()))
            }
            _ => Err("there is no such tool".to_owned()),
        }
    }

    /// A number from `low` to `high`, both included, each as probable as another to 2⁻⁶⁴.
    fn number(&mut self, low: i64, high: i64) -> Option<i64> {
        let count = i128::from(high) - i128::from(low) + 1;
        let count = u128::try_from(count).ok().filter(|count| *count > 0)?;
        self.drawn += 1;
        let bits = mixed(self.seed, self.drawn);
        let offset = (u128::from(bits) * count) >> 64;
        i64::try_from(i128::from(low) + offset as i128).ok()
    }
}

/// The `n`-th number of SplitMix64 (Steele, Lea and Flood, 2014) from a seed.
fn mixed(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, arguments: &str) -> Value {
        let output = DemoTools::new(7).run(&ToolCall::new(name, arguments));
        serde_json::from_str(&output).unwrap()
    }

    /// Breaks with: a tool that does something else than it says.
    #[test]
    fn each_tool_gives_its_result() {
        let sum = run("compute_sum", r#"{"expression": "47 * 83"}"#);
        assert_eq!(sum, json!({"result": 3901}));
        let time = run("get_local_time", r#"{"town": "Lima"}"#);
        assert!(time["time"].as_str().unwrap().contains(':'), "{time}");
        let number = run("create_number", r#"{"low": 3, "high": 5}"#);
        assert!((3..=5).contains(&number["number"].as_i64().unwrap()));
    }

    /// Breaks with: arguments that are taken for others, or that end the program.
    #[test]
    fn what_can_not_be_run_is_said() {
        let cases = [
            ("compute_sum", "{", "not JSON"),
            ("compute_sum", "[]", "expression is missing"),
            ("compute_sum", r#"{"expression": 3}"#, "not a text"),
            ("compute_sum", r#"{"expression": "1/0"}"#, "zero"),
            ("get_local_time", r#"{"town": "Atlantis"}"#, "not found"),
            ("get_local_time", r#"{"city": "Oslo"}"#, "town is missing"),
            ("create_number", r#"{"low": 1}"#, "high is missing"),
            ("create_number", r#"{"low": 1, "high": 2.5}"#, "whole"),
            ("create_number", r#"{"low": 2, "high": 1}"#, "above"),
            ("format_disk", "{}", "no such tool"),
        ];
        for (name, arguments, part) in cases {
            let output = run(name, arguments);
            let error = output["error"].as_str().unwrap();
            assert!(error.contains(part), "{name}({arguments}): {error}");
        }
    }

    /// Breaks with: a number outside its range, a value that never comes, a seed without effect.
    #[test]
    fn numbers_stay_in_their_range() {
        let mut tools = DemoTools::new(1);
        let drawn: Vec<i64> = (0..600).map(|_| tools.number(1, 6).unwrap()).collect();
        for face in 1..=6 {
            let count = drawn.iter().filter(|n| **n == face).count();
            assert!((60..140).contains(&count), "{face}: {count}");
        }
        let number = |seed| DemoTools::new(seed).number(0, 1 << 40);
        assert_eq!(number(3), number(3));
        assert_ne!(number(3), number(4));
        assert!(tools.number(i64::MIN, i64::MAX).is_some());
        assert_eq!(tools.number(9, 9), Some(9));
    }
}
