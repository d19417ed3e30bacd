//! Every behaviour is shown in the README and exercised by a test.
