//! The contract from an author's side: a small reconciler and a small pass, checked; and what must not compile.

mod author;
mod compile_fail;
