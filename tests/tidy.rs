//! Promises about the source itself: a module uses only modules of lower floors; modules of one floor form no circle;
//! `unsafe` stands in named files only; files and functions stay short. Each message names the file, the line and what to do.
//!
//! The sources are read as tokens, so that comments and strings do not count, and code inside macros does.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/core_is_pure.rs"]
mod core_is_pure;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/links.rs"]
mod links;
#[path = "tidy/sizes.rs"]
mod sizes;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/unsafe_code.rs"]
mod unsafe_code;
