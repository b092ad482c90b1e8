//! What an author reads who uses `export_plugins!` wrongly: each program in `export` does not compile, and says why in few lines.

#[test]
fn a_wrong_use_of_export_plugins_is_a_readable_error() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/export/right.rs");
    for wrong in ["nothing", "one_plugin", "a_function", "a_vector", "wrong_constructor", "twice"] {
        cases.compile_fail(format!("tests/export/{wrong}.rs"));
    }
}
