//! Childminder.
