//! The functions that a model may call.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::message::kind;
use crate::{Error, Result};

/// A function tool. Reads and writes OpenAI's form,
/// `{"type": "function", "function": {"name": …, "description": …, "parameters": {…}}}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Tool {
    /// The function's name.
    pub name: String,
    /// What it does, in words for the model.
    pub description: Option<String>,
    /// JSON schema of its arguments; `{}` if there is none.
    pub parameters: Option<Value>,
}

impl Tool {
    /// Reads a list of tools.
    ///
    /// # Errors
    /// [`Error::Json`] where the text is no JSON list, [`Error::Tool`] with the place of a tool
    /// that is wrong.
    pub fn list_from_json(text: &str) -> Result<Vec<Tool>> {
        let value: Value = serde_json::from_str(text).map_err(|error| Error::Json {
            what: "the list of tools",
            problem: error.to_string(),
        })?;
        Self::list_from_value(&value)
    }

    /// Reads a list of tools from parsed JSON.
    ///
    /// # Errors
    /// As [`Tool::list_from_json`].
    pub fn list_from_value(value: &Value) -> Result<Vec<Tool>> {
        let Value::Array(items) = value else {
            return Err(Error::Json {
                what: "the list of tools",
                problem: format!("it is {}, not a list", kind(value)),
            });
        };
        items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                Tool::try_from(item.clone()).map_err(|problem| Error::Tool { index, problem })
            })
            .collect()
    }
}

impl TryFrom<Value> for Tool {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value.get("type") {
            None => {}
            Some(Value::String(kind)) if kind == "function" => {}
            Some(other) => {
                return Err(format!(
                    "its `type` is {other}; only \"function\" is known to the chat format"
                ));
            }
        }
        let function = value
            .get("function")
            .filter(|function| function.is_object())
            .ok_or("it has no object `function`")?;
        let name = match function.get("name") {
            Some(Value::String(name)) if !name.is_empty() => name.clone(),
            _ => return Err("its `function` has no `name`".to_owned()),
        };
        let description = match function.get("description") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => {
                return Err(format!(
                    "its `description` is {}, not a string",
                    kind(other)
                ));
            }
        };
        let parameters = match function.get("parameters") {
            None | Some(Value::Null) => None,
            Some(schema @ Value::Object(_)) => Some(schema.clone()),
            Some(other) => {
                return Err(format!(
                    "its `parameters` is {}, not an object",
                    kind(other)
                ));
            }
        };
        Ok(Tool {
            name,
            description,
            parameters,
        })
    }
}

impl From<Tool> for Value {
    fn from(tool: Tool) -> Value {
        let mut function = json!({"name": tool.name});
        if let Some(description) = tool.description {
            function["description"] = Value::String(description);
        }
        if let Some(parameters) = tool.parameters {
            function["parameters"] = parameters;
        }
        json!({"type": "function", "function": function})
    }
}
