//! Topics in the state folder.
