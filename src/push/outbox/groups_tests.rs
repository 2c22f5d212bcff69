//! Protocol `group`: lists are said once, forgotten and said again, and whoever answers what, each recipient ends once.
