//! Rendering: the tree meets the data.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{
    Context, Error, Position, func,
    parse::{Base, Branches, Command, Node, Operand, Pipeline},
};

type Cell<'d> = Cow<'d, Value>;

pub(super) fn render(nodes: &[Node], data: &Value, context: &Context<'_>) -> Result<String, Error> {
    let mut state = State {
        out: String::new(),
        root: data,
        variables: vec![(String::new(), Cow::Borrowed(data))],
        context,
    };
    state.list(nodes, &Cow::Borrowed(data))?;
    Ok(state.out)
}

struct State<'d, 'c> {
    out: String,
    root: &'d Value,
    variables: Vec<(String, Cell<'d>)>,
    context: &'c Context<'c>,
}

/// Whether a list ran to its end.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl<'d> State<'d, '_> {
    fn list(&mut self, nodes: &[Node], dot: &Cell<'d>) -> Result<Flow, Error> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    /// A list in a scope of its own.
    fn scoped(&mut self, nodes: &[Node], dot: &Cell<'d>) -> Result<Flow, Error> {
        let scope = self.variables.len();
        let flow = self.list(nodes, dot);
        self.variables.truncate(scope);
        flow
    }

    fn node(&mut self, node: &Node, dot: &Cell<'d>) -> Result<Flow, Error> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.out.push_str(&func::text(&value));
                }
            }
            Node::If(branches) => return self.branch(branches, dot, false),
            Node::With(branches) => return self.branch(branches, dot, true),
            Node::Range(branches) => return self.range(branches, dot),
            Node::Break(_) => return Ok(Flow::Break),
            Node::Continue(_) => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn branch(&mut self, b: &Branches, dot: &Cell<'d>, moves_dot: bool) -> Result<Flow, Error> {
        let scope = self.variables.len();
        let value = self.pipeline(&b.pipeline, dot)?;
        let flow = match (func::truth(&value), moves_dot) {
            (true, true) => self.list(&b.then, &value),
            (true, false) => self.list(&b.then, dot),
            (false, _) => self.list(&b.otherwise, dot),
        };
        self.variables.truncate(scope);
        flow
    }

    fn range(&mut self, b: &Branches, dot: &Cell<'d>) -> Result<Flow, Error> {
        // The loop's variables are set for each element, not by the pipeline itself.
        let pipeline = Pipeline { variables: Vec::new(), ..b.pipeline.clone() };
        let value = self.pipeline(&pipeline, dot)?;
        let items = self.items(&value, &pipeline)?;
        if items.is_empty() {
            return self.scoped(&b.otherwise, dot);
        }
        let scope = self.variables.len();
        for (key, value) in items {
            match b.pipeline.variables.as_slice() {
                [] => {}
                [element] => self.bind(element, value.clone(), b.pipeline.assigns),
                [index, element, ..] => {
                    self.bind(index, Cow::Owned(key), b.pipeline.assigns);
                    self.bind(element, value.clone(), b.pipeline.assigns);
                }
            }
            let flow = self.list(&b.then, &value)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    /// Keys and values to range over; those of a map in the order of their keys, as in Go.
    fn items(
        &self,
        value: &Cell<'d>,
        pipeline: &Pipeline,
    ) -> Result<Vec<(Value, Cell<'d>)>, Error> {
        let pair = |i: usize, v: Cell<'d>| (Value::from(i), v);
        Ok(match value {
            Cow::Borrowed(Value::Array(list)) => {
                list.iter().enumerate().map(|(i, v)| pair(i, Cow::Borrowed(v))).collect()
            }
            Cow::Owned(Value::Array(list)) => {
                list.iter().enumerate().map(|(i, v)| pair(i, Cow::Owned(v.clone()))).collect()
            }
            Cow::Borrowed(Value::Object(map)) => sorted(map)
                .into_iter()
                .map(|(k, v)| (Value::from(k.as_str()), Cow::Borrowed(v)))
                .collect(),
            Cow::Owned(Value::Object(map)) => sorted(map)
                .into_iter()
                .map(|(k, v)| (Value::from(k.as_str()), Cow::Owned(v.clone())))
                .collect(),
            other => match other.as_ref() {
                Value::Null => Vec::new(),
                Value::Number(n) if n.as_u64().is_some_and(|n| n <= RANGE_MAX) => {
                    let n = n.as_u64().unwrap_or_default();
                    (0..n).map(|i| (Value::from(i), Cow::Owned(Value::from(i)))).collect()
                }
                other => {
                    let text = func::text(other);
                    let message = format!("range can't iterate over {text}");
                    return Err(self.error(pipeline.position, &source_of(pipeline), &message));
                }
            },
        })
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Cell<'d>) -> Result<Cell<'d>, Error> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Cow::Owned(Value::Null));
        for name in &pipeline.variables {
            self.bind(name, value.clone(), pipeline.assigns);
        }
        Ok(value)
    }

    fn bind(&mut self, name: &str, value: Cell<'d>, assigns: bool) {
        let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        match known {
            Some((_, slot)) if assigns => *slot = value,
            _ => self.variables.push((name.to_owned(), value)),
        }
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Cell<'d>,
        piped: Option<Cell<'d>>,
    ) -> Result<Cell<'d>, Error> {
        let (first, arguments) = command.operands.split_first().unwrap_or((&NOTHING, &[]));
        if let Base::Function(name) = &first.base {
            let value = self.call(name, first, arguments, dot, piped)?;
            return self.fields(value, first);
        }
        if arguments.is_empty() && piped.is_none() {
            return self.operand(first, dot);
        }
        // With arguments it must be a method of the row.
        let arguments = self.arguments(arguments, dot, piped)?;
        let method = match (first.fields.as_slice(), self.base(first, dot)?) {
            ([name], Cow::Borrowed(value)) if std::ptr::eq(value, self.root) => {
                self.context.methods.iter().find(|(known, _)| known == name)
            }
            _ => None,
        };
        match method {
            Some((_, call)) => match call(&arguments) {
                Ok(value) => Ok(Cow::Owned(value)),
                Err(message) => Err(self.error(first.position, &source(first), &message)),
            },
            None => {
                let name = first.fields.last().map_or("value", String::as_str);
                let message = format!("{name} has arguments but cannot be invoked as function");
                Err(self.error(first.position, &source(first), &message))
            }
        }
    }

    fn arguments(
        &mut self,
        operands: &[Operand],
        dot: &Cell<'d>,
        piped: Option<Cell<'d>>,
    ) -> Result<Vec<Value>, Error> {
        let mut values = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            values.push(self.operand(operand, dot)?.into_owned());
        }
        values.extend(piped.map(Cow::into_owned));
        Ok(values)
    }

    fn call(
        &mut self,
        name: &str,
        at: &Operand,
        operands: &[Operand],
        dot: &Cell<'d>,
        piped: Option<Cell<'d>>,
    ) -> Result<Cell<'d>, Error> {
        // `and` and `or` stop at the operand that decides.
        if let Some(wanted) = func::short_circuit(name) {
            let mut last = None;
            for operand in operands {
                let value = self.operand(operand, dot)?;
                if func::truth(&value) != wanted {
                    return Ok(value);
                }
                last = Some(value);
            }
            let missing = format!("wrong number of args for {name}: want at least 1 got 0");
            return piped.or(last).ok_or_else(|| self.error(at.position, name, &missing));
        }
        let arguments = self.arguments(operands, dot, piped)?;
        let result = match self.context.heading {
            true => Ok(func::heading(name, arguments)),
            false => func::call(name, arguments),
        };
        match result {
            Ok(value) => Ok(Cow::Owned(value)),
            Err(message) => Err(self.error(at.position, name, &message)),
        }
    }

    fn operand(&mut self, operand: &Operand, dot: &Cell<'d>) -> Result<Cell<'d>, Error> {
        let value = self.base(operand, dot)?;
        self.fields(value, operand)
    }

    fn base(&mut self, operand: &Operand, dot: &Cell<'d>) -> Result<Cell<'d>, Error> {
        Ok(match &operand.base {
            Base::Dot => dot.clone(),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map_or(Cow::Owned(Value::Null), |(_, value)| value.clone())
            }
            Base::Constant(value) => Cow::Owned(value.clone()),
            Base::Nested(pipeline) => {
                let scope = self.variables.len();
                let value = self.pipeline(pipeline, dot);
                self.variables.truncate(scope);
                value?
            }
            Base::Function(name) => self.call(name, operand, &[], dot, None)?,
        })
    }

    fn fields(&self, mut value: Cell<'d>, operand: &Operand) -> Result<Cell<'d>, Error> {
        let mut parent = "";
        for name in &operand.fields {
            let is_map = self.context.maps.contains(&parent);
            value = match field(value, name) {
                Ok(found) => found,
                Err(Absent::Key) if is_map => Cow::Owned(func::no_value()),
                Err(Absent::Key) => {
                    let message = format!("map has no entry for key {name:?}");
                    return Err(self.error(operand.position, &source(operand), &message));
                }
                Err(Absent::Nil) => {
                    let message = format!("nil pointer evaluating interface {{}}.{name}");
                    return Err(self.error(operand.position, &source(operand), &message));
                }
                Err(Absent::Kind(kind)) => {
                    let message = format!("can't evaluate field {name} in type {kind}");
                    return Err(self.error(operand.position, &source(operand), &message));
                }
            };
            parent = name;
        }
        Ok(value)
    }

    fn error(&self, at: Position, source: &str, message: &str) -> Error {
        Error::Execution {
            line: at.line,
            column: at.column,
            at: source.to_owned(),
            message: message.to_owned(),
        }
    }
}

/// Bound on `range NUMBER`.
const RANGE_MAX: u64 = 100_000;

/// Stands for a command without operands, which the parser does not make.
static NOTHING: Operand = Operand {
    base: Base::Constant(Value::Null),
    fields: Vec::new(),
    position: Position { line: 1, column: 0 },
};

enum Absent {
    Key,
    Nil,
    Kind(&'static str),
}

fn field<'d>(value: Cell<'d>, name: &str) -> Result<Cell<'d>, Absent> {
    let found = match value {
        Cow::Borrowed(Value::Object(map)) => map.get(name).map(Cow::Borrowed),
        Cow::Owned(Value::Object(mut map)) => map.swap_remove(name).map(Cow::Owned),
        other => {
            return Err(match other.as_ref() {
                Value::Null => Absent::Nil,
                Value::String(_) => Absent::Kind("string"),
                Value::Number(_) => Absent::Kind("float64"),
                Value::Bool(_) => Absent::Kind("bool"),
                _ => Absent::Kind("[]interface {}"),
            });
        }
    };
    found.ok_or(Absent::Key)
}

fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

/// An operand as it was written, for errors.
fn source(operand: &Operand) -> String {
    let base = match &operand.base {
        Base::Dot if operand.fields.is_empty() => ".".to_owned(),
        Base::Dot => String::new(),
        Base::Variable(name) => format!("${name}"),
        Base::Function(name) => name.clone(),
        Base::Constant(value) => value.to_string(),
        Base::Nested(pipeline) => format!("({})", source_of(pipeline)),
    };
    operand.fields.iter().fold(base, |text, name| text + "." + name)
}

fn source_of(pipeline: &Pipeline) -> String {
    let commands = pipeline.commands.iter().map(|command| {
        let words: Vec<String> = command.operands.iter().map(source).collect();
        words.join(" ")
    });
    commands.collect::<Vec<_>>().join(" | ")
}
