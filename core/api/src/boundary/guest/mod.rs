//! A library's side of the boundary: its entry points, which `export_plugins!` puts into the descriptor.

mod context;
mod log;
mod objects;
mod tasks;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use ottla_plugin_abi::note::Entry;
use ottla_plugin_abi::{ABI_MAJOR, Host, InitOptions, Message, method, status};
use tokio::runtime::Runtime;

use super::body::{PluginParts, kind_number};
use super::flat::{self, Flat, Kept, SentSchemas};
use super::message::{self, Received};
use crate::config::ConfigDef;
use crate::error::{Error, Result};
use crate::plugin::Plugin;

/// What a library has, from its first call on.
pub(crate) struct Library {
    host: &'static Host,
    plugins: &'static [Plugin],
    definitions: Vec<ConfigDef>,
    /// Tasks run here, never on a thread of the worker's: the copies of tokio in both know nothing of each other.
    runtime: Runtime,
}

static LIBRARY: OnceLock<Library> = OnceLock::new();

/// The library. Everything but `init` comes after `init`.
pub(crate) fn library() -> &'static Library {
    LIBRARY.get().expect("a worker calls `init` first")
}

/// What a note says of the plugins.
pub const fn entries<const N: usize>(plugins: &'static [Plugin]) -> [Entry<'static>; N] {
    let mut entries = [Entry { kind: 0, name: "", version: "", doc: "" }; N];
    let mut index = 0;
    while index < N {
        let plugin = plugins[index];
        let kind = kind_number(plugin.kind());
        entries[index] = Entry { kind, name: plugin.name, version: plugin.version, doc: plugin.doc };
        index += 1;
    }
    entries
}

/// The descriptor's `init`.
///
/// # Safety
///
/// As the contract says: `host` stays for ever, `options` and `reply` until the return.
pub unsafe fn init(
    plugins: &'static [Plugin],
    host: *const Host,
    options: *const InitOptions,
    reply: *mut Message,
) -> i32 {
    // SAFETY: by contract.
    let (host, options, reply) = unsafe { (&*host, &*options, &mut *reply) };
    answer(reply, || {
        if host.abi_major != ABI_MAJOR {
            return Err(Error::fatal(format!("built for plugin ABI {ABI_MAJOR}, the worker has {}", host.abi_major)));
        }
        // SAFETY: the name may be read until the return.
        let name = unsafe { log::text(options.name) }.to_owned();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1) as usize)
            .thread_name(name.as_str())
            .enable_all()
            .build()
            .map_err(|error| Error::fatal("start the library's own runtime").caused_by(error))?;
        let definitions = plugins.iter().map(|plugin| (plugin.definition)()).collect();
        if LIBRARY.set(Library { host, plugins, definitions, runtime }).is_err() {
            return Err(Error::fatal("the library is initialised already"));
        }
        log::install(host, options.log_level, name);
        Ok(Message::EMPTY)
    })
}

/// The descriptor's `call`.
///
/// # Safety
///
/// As the contract says.
pub unsafe extern "C" fn call(object: u64, method: u32, request: *const Message, reply: *mut Message) -> i32 {
    // SAFETY: by contract: both stay until the return, and the request has no `release` or is ours to release.
    let (request, reply) = unsafe { (Received::new(*request), &mut *reply) };
    let mut unknown = false;
    let ended = answer(reply, || {
        let answered = match object {
            0 => call_library(method, &request),
            // SAFETY: the worker gives numbers of objects that this library made and that were not released.
            number => unsafe { objects::with(number, |object| object.call(method, &request)) },
        };
        answered.map(|answer| {
            answer.unwrap_or_else(|| {
                unknown = true;
                Message::EMPTY
            })
        })
    });
    if unknown { status::UNKNOWN_METHOD } else { ended }
}

/// The descriptor's `start`.
///
/// # Safety
///
/// As the contract says.
pub unsafe extern "C" fn start(object: u64, method: u32, request: *const Message, ticket: u64) {
    // SAFETY: by contract the request is ours from here on, and a worker sends none without `release` here.
    let request = unsafe { Received::new(*request) };
    let ticket = tasks::Ticket::new(ticket);
    // A panic in here drops the ticket, which answers.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: as for `call`.
        unsafe { objects::with(object, |object| object.start(method, request, ticket)) }
    }));
}

/// The descriptor's `cancel`.
pub extern "C" fn cancel(_object: u64, ticket: u64) {
    let _ = catch_unwind(|| tasks::cancel(ticket));
}

/// The descriptor's `release`.
///
/// # Safety
///
/// As the contract says: the object was made by this library and is named for the last time.
pub unsafe extern "C" fn release(object: u64) {
    // SAFETY: by contract.
    let _ = catch_unwind(|| unsafe { objects::release(object) });
}

/// Methods of the library as a whole. Nothing where there is no such method.
fn call_library(method: u32, request: &Received) -> Result<Option<Message>> {
    let library = library();
    Ok(Some(match method {
        method::ECHO => {
            let mut schemas = flat::ReceivedSchemas::default();
            let record: Option<crate::record::Record> = request.read_with(&mut schemas)?;
            match record {
                Some(record) => message::message(&record, &mut SentSchemas::default()),
                None => return Err(Error::data("nothing to echo").with("asked", "nothing")),
            }
        }
        method::PLUGINS => {
            let list: Vec<PluginParts> = library.plugins.iter().zip(&library.definitions).map(parts).collect();
            message::plain(&list)
        }
        method::CHECK_OPTION => {
            let (plugin, option, text): (u32, u32, String) = request.read()?;
            let keys = library.definitions.get(plugin as usize).map(|definition| &definition.keys);
            let key =
                keys.and_then(|keys| keys.get(option as usize)).ok_or_else(|| flat::malformed("no such option"))?;
            message::plain(&(key.check)(&text).err())
        }
        method::MAKE => {
            let (plugin, properties, for_keys): (u32, crate::config::Properties, bool) = request.read()?;
            let plugin = library.plugins.get(plugin as usize).ok_or_else(|| flat::malformed("no such plugin"))?;
            message::plain(&objects::make(plugin, &properties, for_keys)?)
        }
        _ => return Ok(None),
    }))
}

fn parts((plugin, definition): (&Plugin, &ConfigDef)) -> PluginParts {
    let aliases = plugin.aliases.iter().map(|alias| Kept(alias)).collect();
    let about = (Kept(plugin.version), Kept(plugin.doc));
    (kind_number(plugin.kind()), Kept(plugin.name), aliases, about, definition.keys.clone())
}

/// Does something for the worker, and puts what comes of it into `reply`; a panic ends here.
fn answer(reply: &mut Message, work: impl FnOnce() -> Result<Message>) -> i32 {
    let (status, message) = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(message)) => (status::OK, message),
        Ok(Err(error)) => (status::FAILED, message::plain(&error)),
        Err(panic) => (status::PANICKED, message::plain(&panic_text(panic))),
    };
    *reply = message;
    status
}

/// The words of a panic. Its payload is dropped here, by the side that made it.
fn panic_text(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

/// Makes a message that needs no more than what a body says.
fn plain(item: &impl Flat) -> Message {
    message::plain(item)
}

/// Exports the plugins of a library: call it once, in its `lib.rs`, with a constant list.
///
/// ```ignore
/// pub const PLUGINS: &[Plugin] = &[Plugin {
///     name: "my-sink",
///     aliases: &[],
///     version: env!("CARGO_PKG_VERSION"),
///     doc: "Writes records somewhere.",
///     definition: &MySinkConfig::definition,
///     constructor: Constructor::Sink(&|| Box::new(MySink)),
/// }];
///
/// ottla_api::export_plugins!(PLUGINS);
/// ```
///
/// The crate is built with `crate-type = ["cdylib", "rlib"]` and `ottla-api` with the feature `plugin`; panics must unwind, which they do unless
/// a profile says otherwise.
#[macro_export]
macro_rules! export_plugins {
    () => {
        ::core::compile_error!("export_plugins! needs the plugins of the library: export_plugins!(PLUGINS)");
    };
    ($(&)? vec! $($rest:tt)*) => {
        ::core::compile_error!(
            "export_plugins! needs a constant list, which a Vec is not: const PLUGINS: &[Plugin] = &[..]; export_plugins!(PLUGINS)"
        );
    };
    ($plugins:expr $(,)?) => {
        // A second call finds the name taken, which says more than a symbol that is.
        #[doc(hidden)]
        #[allow(dead_code, non_upper_case_globals)]
        const export_plugins_is_called_once_for_all_plugins: () = ();

        #[allow(unsafe_code)]
        const _: () = {
            use $crate::boundary::abi::{
                ABI_MAJOR, ABI_MINOR, Descriptor, Host, InitOptions, Message, Slice, flags, note,
            };
            use $crate::boundary::guest;

            const LIBRARY_PLUGINS: &[$crate::plugin::Plugin] = $plugins;
            const ENTRIES: [note::Entry<'static>; LIBRARY_PLUGINS.len()] = guest::entries(LIBRARY_PLUGINS);
            const LIBRARY: note::Library<'static> = note::Library {
                unwinds: ::core::cfg!(panic = "unwind"),
                sdk: $crate::boundary::VERSION,
                name: ::core::env!("CARGO_PKG_NAME"),
                version: ::core::env!("CARGO_PKG_VERSION"),
            };

            #[used]
            #[unsafe(link_section = ".ottla.plugin")]
            static NOTE: [u8; note::length(LIBRARY, &ENTRIES)] = note::write(LIBRARY, &ENTRIES);

            #[unsafe(no_mangle)]
            static OTTLA_PLUGIN_LIBRARY: Descriptor = Descriptor {
                size: ::core::mem::size_of::<Descriptor>() as u32,
                abi_major: ABI_MAJOR,
                abi_minor: ABI_MINOR,
                flags: flags::STARTS_AT_ONCE,
                reserved: 0,
                note: Slice::of(&NOTE),
                init,
                call,
                start,
                cancel: guest::cancel,
                release,
            };

            extern "C" fn init(host: *const Host, options: *const InitOptions, reply: *mut Message) -> i32 {
                // SAFETY: the worker keeps the contract.
                unsafe { guest::init(LIBRARY_PLUGINS, host, options, reply) }
            }

            extern "C" fn call(object: u64, method: u32, request: *const Message, reply: *mut Message) -> i32 {
                // SAFETY: the worker keeps the contract.
                unsafe { guest::call(object, method, request, reply) }
            }

            extern "C" fn start(object: u64, method: u32, request: *const Message, ticket: u64) {
                // SAFETY: the worker keeps the contract.
                unsafe { guest::start(object, method, request, ticket) }
            }

            extern "C" fn release(object: u64) {
                // SAFETY: the worker keeps the contract.
                unsafe { guest::release(object) }
            }
        };
    };
}
