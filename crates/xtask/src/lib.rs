//! Chores of the repository, for developers only.

pub mod book;
pub mod genai;
