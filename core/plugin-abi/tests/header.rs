//! Says the C header the same as the Rust contract? A C program prints what the compiler makes of it.

use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

use ottla_plugin_abi::note::MAGIC;
use ottla_plugin_abi::{
    ABI_MAJOR, ABI_MINOR, Descriptor, Host, InitOptions, Message, NO_SCHEMA, NO_TIMESTAMP, PayloadView, RecordView,
    SECTION, Slice, flags, method, payload, status,
};

/// Lines of `what = number`: as C code that prints them, and as Rust sees them.
#[derive(Default)]
struct Both {
    c: String,
    rust: String,
}

impl Both {
    fn number(&mut self, c: &str, rust: i128) {
        writeln!(self.c, "    printf(\"{c} = %lld\\n\", (long long)({c}));").unwrap();
        writeln!(self.rust, "{c} = {rust}").unwrap();
    }

    fn text(&mut self, c: &str, rust: &str) {
        writeln!(self.c, "    printf(\"{c} = %s\\n\", {c});").unwrap();
        writeln!(self.rust, "{c} = {rust}").unwrap();
    }
}

macro_rules! constants {
    ($both:ident, $module:ident: $($c:ident $name:ident)*) => {
        $($both.number(stringify!($c), i128::from($module::$name));)*
    };
}

macro_rules! structures {
    ($both:ident, $($c:literal $rust:ident { $($field:ident)* })*) => {$(
        $both.number(concat!("sizeof(struct ", $c, ")"), size_of::<$rust>() as i128);
        $($both.number(
            concat!("offsetof(struct ", $c, ", ", stringify!($field), ")"),
            offset_of!($rust, $field) as i128,
        );)*
    )*};
}

#[test]
fn the_header_says_what_the_crate_says() {
    let mut both = Both::default();
    both.number("OTTLA_ABI_MAJOR", ABI_MAJOR.into());
    both.number("OTTLA_ABI_MINOR", ABI_MINOR.into());
    both.number("OTTLA_NO_SCHEMA", NO_SCHEMA.into());
    both.number("OTTLA_NO_TIMESTAMP", NO_TIMESTAMP.into());
    both.number("OTTLA_STARTS_AT_ONCE", flags::STARTS_AT_ONCE.into());
    both.text("OTTLA_SECTION", SECTION);
    both.text("OTTLA_MAGIC", std::str::from_utf8(&MAGIC).unwrap());
    constants!(both, payload: OTTLA_NULL NULL OTTLA_JSON JSON OTTLA_FLAT FLAT);
    constants!(both, status: OTTLA_OK OK OTTLA_FAILED FAILED OTTLA_PANICKED PANICKED OTTLA_CANCELLED CANCELLED
        OTTLA_UNKNOWN_METHOD UNKNOWN_METHOD);
    constants!(both, method: OTTLA_ECHO ECHO OTTLA_PLUGINS PLUGINS OTTLA_CHECK_OPTION CHECK_OPTION OTTLA_MAKE MAKE
        OTTLA_VALIDATE VALIDATE OTTLA_TASKS TASKS OTTLA_TASK TASK OTTLA_DESTINATION DESTINATION
        OTTLA_APPLY APPLY OTTLA_IS_DETERMINISTIC IS_DETERMINISTIC OTTLA_TEST TEST
        OTTLA_TO_CONNECT TO_CONNECT OTTLA_FROM_CONNECT FROM_CONNECT OTTLA_GET GET
        OTTLA_START START OTTLA_STOP STOP OTTLA_POLL POLL OTTLA_COMMIT COMMIT
        OTTLA_OPEN OPEN OTTLA_PUT PUT OTTLA_FLUSH FLUSH OTTLA_CLOSE CLOSE OTTLA_TICK TICK
        OTTLA_CONTEXT_OFFSET CONTEXT_OFFSET OTTLA_CONTEXT_COUNT CONTEXT_COUNT OTTLA_CONTEXT_GAUGE CONTEXT_GAUGE
        OTTLA_CONTEXT_REPORT CONTEXT_REPORT OTTLA_CONTEXT_BUFFERED CONTEXT_BUFFERED OTTLA_CONTEXT_REWIND CONTEXT_REWIND
        OTTLA_CONTEXT_DELIVERED CONTEXT_DELIVERED OTTLA_CONTEXT_TOPIC_IDENTITY CONTEXT_TOPIC_IDENTITY);
    structures!(both,
        "ottla_slice" Slice { data len }
        "ottla_payload" PayloadView { kind schema data }
        "ottla_record" RecordView { offset timestamp raw_key raw_value key value rest }
        "ottla_message" Message { size record_size body schemas records records_len chunk owner release }
        "ottla_init_options" InitOptions { size threads log_level reserved name }
        "ottla_host" Host { size abi_major abi_minor done call log }
        "ottla_descriptor" Descriptor { size abi_major abi_minor flags reserved note init call start cancel release });

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, program) = (folder.join("header.c"), folder.join("header"));
    let text =
        format!("#include <stdio.h>\n#include \"ottla_plugin.h\"\nint main(void) {{\n{}    return 0;\n}}\n", both.c);
    std::fs::write(&source, text).unwrap();
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let compiled = Command::new(&compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", env!("CARGO_MANIFEST_DIR"), "-o"])
        .args([&program, &source])
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let printed = Command::new(&program).output().unwrap().stdout;
    assert_eq!(String::from_utf8(printed).unwrap(), both.rust);
}
