//! Small collections, packed into one string in any form that one was ever packed in, read in one way.

use super::Reason;
use super::ziplist::Ziplist;
use super::zipmap::Zipmap;
use crate::value::intset::Intset;
use crate::value::listpack::{self, Listpack};
use crate::value::packed::{self, Element, Full};

/// How a collection is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As Redis 7 packs.
    Listpack,
    /// Integers of a set.
    Intset,
    /// As Redis packed before that.
    Ziplist,
    /// As hashes were packed once.
    Zipmap,
}

impl Form {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Form::Listpack => "listpack",
            Form::Intset => "intset",
            Form::Ziplist => "ziplist",
            Form::Zipmap => "zipmap",
        }
    }
}

/// A packed collection, checked.
#[derive(Clone, Copy, Debug)]
pub enum Packed<'a> {
    /// See [`Form`].
    Listpack(Listpack<'a>),
    /// See [`Form`].
    Intset(Intset<'a>),
    /// See [`Form`].
    Ziplist(Ziplist<'a>),
    /// See [`Form`].
    Zipmap(Zipmap<'a>),
}

impl<'a> Packed<'a> {
    /// Checks bytes that claim to be in this form.
    pub fn check(form: Form, bytes: &'a [u8]) -> Result<Packed<'a>, Reason> {
        match form {
            Form::Listpack => Listpack::check(bytes).map(Packed::Listpack),
            Form::Intset => Intset::check(bytes).map(Packed::Intset),
            Form::Ziplist => Ziplist::check(bytes).map(Packed::Ziplist),
            Form::Zipmap => Zipmap::check(bytes).map(Packed::Zipmap),
        }
        .map_err(|malformed| Reason::Packed(form.name(), malformed))
    }

    /// Checks that the elements come in tuples of `width`, and that no two tuples begin with the same one.
    pub fn check_tuples(self, width: usize) -> Result<(), Reason> {
        match self {
            // Checked with its order.
            Packed::Intset(_) if width == 1 => Ok(()),
            Packed::Listpack(listpack) => packed::check_tuples(listpack.iter(), width),
            Packed::Intset(set) => packed::check_tuples(set.iter().map(Element::Int), width),
            Packed::Ziplist(ziplist) => packed::check_tuples(ziplist.iter(), width),
            Packed::Zipmap(zipmap) => packed::check_tuples(zipmap.iter(), width),
        }
        .map_err(|flaw| Reason::Elements(self.form().name(), flaw))
    }

    /// How it is packed.
    pub fn form(self) -> Form {
        match self {
            Packed::Listpack(_) => Form::Listpack,
            Packed::Intset(_) => Form::Intset,
            Packed::Ziplist(_) => Form::Ziplist,
            Packed::Zipmap(_) => Form::Zipmap,
        }
    }

    /// How many elements there are: of a hash, fields and values.
    pub fn len(self) -> usize {
        match self {
            Packed::Listpack(listpack) => listpack.len(),
            Packed::Intset(set) => set.len(),
            Packed::Ziplist(ziplist) => ziplist.len(),
            Packed::Zipmap(zipmap) => 2 * zipmap.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Hands over every element, in order, until one is refused.
    pub fn try_for_each<E>(
        self,
        mut visit: impl FnMut(Element<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Packed::Listpack(listpack) => listpack.iter().try_for_each(visit),
            Packed::Intset(set) => set.iter().try_for_each(|n| visit(Element::Int(n))),
            Packed::Ziplist(ziplist) => ziplist.iter().try_for_each(visit),
            Packed::Zipmap(zipmap) => zipmap.iter().try_for_each(visit),
        }
    }

    /// Appends every element to a listpack; where that is full, those that still fit are in it.
    pub fn append_to(self, listpack: &mut listpack::Editor) -> Result<(), Full> {
        self.try_for_each(|element| listpack.push_back(element).map(drop))
    }
}

#[cfg(test)]
mod tests;
