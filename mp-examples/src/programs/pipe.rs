//! One value from a child, over a connection.

use mp_pipe::{Connection, pipe};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// What Python would write as a list of whatever there is.
#[derive(Debug, Serialize, Deserialize)]
enum Value {
    Int(i64),
    None,
    Text(String),
}

type Values = Vec<Value>;

fn child(connection: Connection<Values>) {
    let values = vec![Value::Int(42), Value::None, Value::Text("hello".to_owned())];
    connection.send(&values).expect("the parent listens");
    connection.close();
}

/// As Python prints them.
fn show(value: &Value) -> String {
    match value {
        Value::Int(number) => number.to_string(),
        Value::None => "None".to_owned(),
        Value::Text(text) => format!("'{text}'"),
    }
}

/// Starts a child and prints what it sends.
///
/// # Errors
/// Those of the process and of the connection.
pub fn run() -> Result<(), Failure> {
    let (parent, theirs) = pipe::<Values, Values>()?;
    let process = mp_core::spawn(child, (theirs,))?;
    let values: Vec<String> = parent.recv()?.iter().map(show).collect();
    println!("[{}]", values.join(", "));
    process.join()?;
    Ok(())
}
