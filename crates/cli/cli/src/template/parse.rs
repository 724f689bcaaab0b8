//! From tokens to a tree. The depth of nesting is bounded, so that no template can exhaust the
//! stack of whoever renders it.

use serde_json::Value;

use super::{
    Error, Position,
    lex::{self, Placed, Token},
};

const DEPTH_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    If(Branches),
    With(Branches),
    Range(Branches),
    Break(Position),
    Continue(Position),
}

/// `if`, `with` and `range`: what it is about, and what happens then or else.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Branches {
    pub(super) pipeline: Pipeline,
    pub(super) then: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// `$a := command | command`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    pub(super) variables: Vec<String>,
    /// `=` instead of `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
    pub(super) position: Position,
}

/// Operands; the first may be a function or a method, the others are its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    pub(super) operands: Vec<Operand>,
}

/// A base and the fields taken of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operand {
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
    pub(super) position: Position,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Function(String),
    Constant(Value),
    Nested(Box<Pipeline>),
}

pub(super) fn parse(text: &str) -> Result<Vec<Node>, Error> {
    let tokens = lex::tokens(text)?;
    let mut parser = Parser { tokens, next: 0, loops: 0, depth: 0, variables: vec![String::new()] };
    let (nodes, end) = parser.list()?;
    match end {
        None => Ok(nodes),
        Some(word) => Err(parser.error(&format!("unexpected {{{{{word}}}}}"))),
    }
}

struct Parser {
    tokens: Vec<Placed>,
    next: usize,
    loops: usize,
    depth: usize,
    /// Names in scope; the empty one is `$`.
    variables: Vec<String>,
}

impl Parser {
    /// Nodes up to an `end` or `else`, whose word is returned, or to the end of the text.
    fn list(&mut self) -> Result<(Vec<Node>, Option<&'static str>), Error> {
        let mut nodes = Vec::new();
        while let Some((token, _)) = self.tokens.get(self.next).cloned() {
            self.next += 1;
            match token {
                Token::Text(text) => nodes.push(Node::Text(text)),
                // Only `{{` begins anything else.
                _ => match self.action()? {
                    Action::Node(node) => nodes.push(node),
                    Action::End(word) => return Ok((nodes, Some(word))),
                },
            }
        }
        Ok((nodes, None))
    }

    fn action(&mut self) -> Result<Action, Error> {
        self.blanks();
        let (token, position) = self.peek();
        let word = match token {
            Some(Token::Identifier(word)) => word,
            _ => String::new(),
        };
        let control: Option<fn(Branches) -> Node> = match word.as_str() {
            "if" => Some(Node::If),
            "with" => Some(Node::With),
            "range" => Some(Node::Range),
            _ => None,
        };
        if let Some(control) = control {
            self.next += 1;
            return Ok(Action::Node(self.control(&word, control)?));
        }
        match word.as_str() {
            "end" => {
                self.next += 1;
                self.close("end")?;
                Ok(Action::End("end"))
            }
            // `else if` is looked at by whoever the `else` belongs to.
            "else" => {
                self.next += 1;
                Ok(Action::End("else"))
            }
            "break" | "continue" => {
                self.next += 1;
                self.close(&word)?;
                if self.loops == 0 {
                    return Err(self.error(&format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                let node = if word == "break" { Node::Break } else { Node::Continue };
                Ok(Action::Node(node(position)))
            }
            "define" | "template" | "block" => {
                Err(self.error(&format!("{word} is not supported in a format")))
            }
            _ => {
                let pipeline = self.pipeline()?;
                self.close("command")?;
                Ok(Action::Node(Node::Print(pipeline)))
            }
        }
    }

    /// The rest of an `if`, `with` or `range`.
    fn control(&mut self, word: &str, node: fn(Branches) -> Node) -> Result<Node, Error> {
        self.deeper()?;
        let scope = self.variables.len();
        let pipeline = self.pipeline()?;
        self.close(word)?;
        self.loops += usize::from(word == "range");
        let (then, end) = self.list()?;
        self.loops -= usize::from(word == "range");
        let otherwise = match end {
            Some("end") => Vec::new(),
            Some(_) => self.otherwise(word)?,
            None => return Err(self.error("unexpected EOF")),
        };
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(node(Branches { pipeline, then, otherwise }))
    }

    /// After `else`: `}}` and a list, or `if` and another control whose `end` is ours too.
    fn otherwise(&mut self, word: &str) -> Result<Vec<Node>, Error> {
        self.blanks();
        let chained: Option<fn(Branches) -> Node> = match (self.peek().0, word) {
            (Some(Token::Identifier(w)), "if") if w == "if" => Some(Node::If),
            (Some(Token::Identifier(w)), "with") if w == "with" => Some(Node::With),
            _ => None,
        };
        if let Some(control) = chained {
            self.next += 1;
            return Ok(vec![self.control(word, control)?]);
        }
        self.close("else")?;
        match self.list()? {
            (nodes, Some("end")) => Ok(nodes),
            (_, Some(other)) => Err(self.error(&format!("expected end; found {{{{{other}}}}}"))),
            (_, None) => Err(self.error("unexpected EOF")),
        }
    }

    fn pipeline(&mut self) -> Result<Pipeline, Error> {
        self.deeper()?;
        self.blanks();
        let position = self.peek().1;
        let (variables, assigns) = self.declaration()?;
        let mut commands = Vec::new();
        loop {
            let command = self.command()?;
            if command.operands.is_empty() {
                return Err(self.error("missing value for command"));
            }
            if !commands.is_empty() && matches!(command.operands[0].base, Base::Constant(_)) {
                return Err(self.error("non executable command in pipeline"));
            }
            commands.push(command);
            if self.peek().0 != Some(Token::Pipe) {
                break;
            }
            self.next += 1;
        }
        // A variable can be used after its declaration only.
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        self.depth -= 1;
        Ok(Pipeline { variables, assigns, commands, position })
    }

    /// `$a :=`, `$a, $b :=`, `$a =`, or nothing.
    fn declaration(&mut self) -> Result<(Vec<String>, bool), Error> {
        let start = self.next;
        let mut names = Vec::new();
        while let Some(Token::Variable(name)) = self.peek().0 {
            self.next += 1;
            names.push(name);
            self.blanks();
            match self.peek().0 {
                Some(Token::Comma) if names.len() < 2 => {
                    self.next += 1;
                    self.blanks();
                }
                Some(Token::Declare) => {
                    self.next += 1;
                    return Ok((names, false));
                }
                Some(Token::Assign) => {
                    self.next += 1;
                    for name in &names {
                        self.known(name)?;
                    }
                    return Ok((names, true));
                }
                _ => break,
            }
        }
        self.next = start;
        Ok((Vec::new(), false))
    }

    fn command(&mut self) -> Result<Command, Error> {
        let mut operands = Vec::new();
        loop {
            self.blanks();
            match self.operand()? {
                Some(operand) => operands.push(operand),
                None => return Ok(Command { operands }),
            }
            match self.peek().0 {
                Some(Token::Blank | Token::Pipe | Token::Close | Token::RightParen) | None => {}
                Some(other) => return Err(self.error(&format!("unexpected {other:?} in operand"))),
            }
        }
    }

    fn operand(&mut self) -> Result<Option<Operand>, Error> {
        let (token, position) = self.peek();
        let mut fields = Vec::new();
        let base = match token {
            Some(Token::Dot) => Base::Dot,
            Some(Token::Field(name)) => {
                fields.push(name);
                Base::Dot
            }
            Some(Token::Variable(name)) => {
                self.known(&name)?;
                Base::Variable(name)
            }
            Some(Token::Identifier(word)) => match word.as_str() {
                "true" => Base::Constant(Value::Bool(true)),
                "false" => Base::Constant(Value::Bool(false)),
                "nil" => Base::Constant(Value::Null),
                _ if super::func::exists(&word) => Base::Function(word),
                _ => return Err(self.error(&format!("function {word:?} not defined"))),
            },
            Some(Token::String(text)) => Base::Constant(Value::String(text)),
            Some(Token::Number(number)) => Base::Constant(Value::Number(number)),
            Some(Token::LeftParen) => {
                self.next += 1;
                let inner = self.pipeline()?;
                if self.peek().0 != Some(Token::RightParen) {
                    return Err(self.error("unclosed left paren"));
                }
                Base::Nested(Box::new(inner))
            }
            _ => return Ok(None),
        };
        self.next += 1;
        while let (Some(Token::Field(name)), _) = self.peek() {
            fields.push(name);
            self.next += 1;
        }
        Ok(Some(Operand { base, fields, position }))
    }

    fn known(&self, name: &String) -> Result<(), Error> {
        match self.variables.contains(name) {
            true => Ok(()),
            false => Err(self.error(&format!("undefined variable \"${name}\""))),
        }
    }

    fn deeper(&mut self) -> Result<(), Error> {
        self.depth += 1;
        match self.depth > DEPTH_MAX {
            true => Err(self.error("nested too deeply")),
            false => Ok(()),
        }
    }

    fn close(&mut self, context: &str) -> Result<(), Error> {
        self.blanks();
        match self.peek().0 {
            Some(Token::Close) => {
                self.next += 1;
                Ok(())
            }
            Some(other) => Err(self.error(&format!("unexpected {other:?} in {context}"))),
            None => Err(self.error("unclosed action")),
        }
    }

    fn blanks(&mut self) {
        while self.peek().0 == Some(Token::Blank) {
            self.next += 1;
        }
    }

    fn peek(&self) -> (Option<Token>, Position) {
        match self.tokens.get(self.next) {
            Some((token, position)) => (Some(token.clone()), *position),
            None => (None, self.last_position()),
        }
    }

    fn last_position(&self) -> Position {
        self.tokens.last().map_or(Position { line: 1, column: 0 }, |t| t.1)
    }

    fn error(&self, message: &str) -> Error {
        let line = self.tokens.get(self.next).map_or(self.last_position(), |t| t.1).line;
        Error::Syntax { line, message: message.to_owned() }
    }
}

enum Action {
    Node(Node),
    End(&'static str),
}
