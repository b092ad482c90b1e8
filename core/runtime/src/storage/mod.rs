//! The state folder: one transactional store, owned by one worker at a time.
