//! Figures of many instances.
