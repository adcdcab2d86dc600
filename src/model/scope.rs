//! A tape and a parameter table under a name prefix: how models declare parameters.

use crate::error::{Error, Result};
use crate::plan::{ParamInit, ParamSpec, ParamTable};
use crate::shape::Shape;
use crate::tape::{Param, Tape};

#[derive(Debug)]
pub struct Scope<'a> {
    pub tape: &'a mut Tape,
    table: &'a mut ParamTable,
    prefix: String,
    frozen: bool,
}

impl<'a> Scope<'a> {
    pub fn new(tape: &'a mut Tape, table: &'a mut ParamTable) -> Self {
        Scope { tape, table, prefix: String::new(), frozen: false }
    }

    /// The scope `name` below this one; an empty name is this scope itself.
    pub fn at(&mut self, name: impl std::fmt::Display) -> Scope<'_> {
        let name = name.to_string();
        let prefix = match name.is_empty() {
            true => self.prefix.clone(),
            false => format!("{}{name}.", self.prefix),
        };
        Scope { tape: self.tape, table: self.table, prefix, frozen: self.frozen }
    }

    /// See [`ParamTable::train_apart`].
    pub fn train_apart(&mut self, prefix: &str) {
        self.table.train_apart(prefix);
    }

    /// This scope, whose parameters get no gradients: what is recorded in it is differentiated with
    /// respect to its inputs alone.
    pub fn frozen(&mut self) -> Scope<'_> {
        let prefix = self.prefix.clone();
        Scope { tape: self.tape, table: self.table, prefix, frozen: true }
    }

    /// What `f` records is one region of the tape, named after this scope: see
    /// [`crate::recompute::Recompute`]. Inside of another region it is a part of that one.
    pub fn region<R>(mut self, f: impl FnOnce(Scope<'_>) -> Result<R>) -> Result<R> {
        let began = self.tape.enter_region(self.prefix.trim_end_matches('.'));
        let result = f(self.at(""));
        if began {
            self.tape.leave_region();
        }
        result
    }

    /// The parameter `name` of this scope, registered on first use.
    pub fn param(
        &mut self,
        name: &str,
        dims: &[usize],
        init: ParamInit,
        decay: bool,
    ) -> Result<Param> {
        let shape = Shape::new(dims)?;
        let name = format!("{}{name}", self.prefix);
        let index = self.table.get_or_add(ParamSpec { name, shape, init, decay })?;
        let param = match self.frozen {
            true => self.tape.frozen_param(index, shape),
            false => self.tape.param(index, shape),
        };
        if self.tape.requires_grad(param) == self.frozen {
            let name = &self.table.specs()[index].name;
            return Err(Error::failed(format!("{name} is trained and frozen on one tape")));
        }
        Ok(param)
    }
}
