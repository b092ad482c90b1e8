/* The binary contract between a worker and a library of plugins, for authors in C and in whatever can read C.
 *
 * What the numbers and structures mean, who frees what, and which calls may overlap is said in `src/lib.rs`; the flat encoding
 * of bodies in `core/api/src/boundary/flat.rs`. `tests/header.rs` holds this file and the Rust one together.
 */
#ifndef OTTLA_PLUGIN_H
#define OTTLA_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OTTLA_ABI_MAJOR 1
#define OTTLA_ABI_MINOR 0

/* The section with the note, and how a note begins. */
#define OTTLA_SECTION ".ottla.plugin"
#define OTTLA_MAGIC "OTTLAPLG"

/* Kinds of plugins, in notes and in the list of plugins. */
enum ottla_kind {
    OTTLA_SOURCE = 0,
    OTTLA_SINK = 1,
    OTTLA_TRANSFORMATION = 2,
    OTTLA_PREDICATE = 3,
    OTTLA_CONVERTER = 4,
    OTTLA_CONFIG_PROVIDER = 5
};

/* How a call ended. */
enum ottla_status {
    OTTLA_OK = 0,
    OTTLA_FAILED = 1,
    OTTLA_PANICKED = 2,
    OTTLA_CANCELLED = 3,
    OTTLA_UNKNOWN_METHOD = 4
};

/* What can be asked. */
enum ottla_method {
    /* Of the library, object 0. */
    OTTLA_ECHO = 1,
    OTTLA_PLUGINS = 2,
    OTTLA_CHECK_OPTION = 3,
    OTTLA_MAKE = 4,
    /* Of a connector. */
    OTTLA_VALIDATE = 10,
    OTTLA_TASKS = 11,
    OTTLA_TASK = 12,
    OTTLA_DESTINATION = 13,
    /* Of what sees one record at a time. */
    OTTLA_APPLY = 20,
    OTTLA_IS_DETERMINISTIC = 21,
    OTTLA_TEST = 22,
    OTTLA_TO_CONNECT = 23,
    OTTLA_FROM_CONNECT = 24,
    /* Of a config provider. */
    OTTLA_GET = 30,
    /* Of a task: started, not called. */
    OTTLA_START = 40,
    OTTLA_STOP = 41,
    OTTLA_POLL = 42,
    OTTLA_COMMIT = 43,
    OTTLA_OPEN = 44,
    OTTLA_PUT = 45,
    OTTLA_FLUSH = 46,
    OTTLA_CLOSE = 47,
    OTTLA_TICK = 48,
    /* Of a task's context, on the worker's side. */
    OTTLA_CONTEXT_OFFSET = 60,
    OTTLA_CONTEXT_COUNT = 61,
    OTTLA_CONTEXT_GAUGE = 62,
    OTTLA_CONTEXT_REPORT = 63,
    OTTLA_CONTEXT_BUFFERED = 64,
    OTTLA_CONTEXT_REWIND = 65,
    OTTLA_CONTEXT_DELIVERED = 66,
    OTTLA_CONTEXT_TOPIC_IDENTITY = 67
};

/* What `ottla_payload.data` holds. */
enum ottla_payload_kind { OTTLA_NULL = 0, OTTLA_JSON = 1, OTTLA_FLAT = 2 };

/* `start` never does the work itself: a bit of `ottla_descriptor.flags`. */
#define OTTLA_STARTS_AT_ONCE 1u

/* A payload without a schema, a record without a timestamp. */
#define OTTLA_NO_SCHEMA UINT32_MAX
#define OTTLA_NO_TIMESTAMP INT64_MIN

/* Bytes that somebody else owns. `data` is NULL where there are none, which is not an empty text. */
struct ottla_slice {
    const uint8_t *data;
    size_t len;
};

/* A key or a value. */
struct ottla_payload {
    uint32_t kind;
    uint32_t schema;
    struct ottla_slice data;
};

/* One record, as it lies in the memory of the side that sends it. */
struct ottla_record {
    int64_t offset;
    int64_t timestamp;
    struct ottla_slice raw_key;
    struct ottla_slice raw_value;
    struct ottla_payload key;
    struct ottla_payload value;
    struct ottla_slice rest;
};

/* What goes with a call or comes back from one. The next record lies `record_size` bytes behind one. */
struct ottla_message {
    uint32_t size;
    uint32_t record_size;
    struct ottla_slice body;
    struct ottla_slice schemas;
    const struct ottla_record *records;
    size_t records_len;
    struct ottla_slice chunk;
    void *owner;
    void (*release)(void *owner);
};

/* What the worker tells a library at its beginning. */
struct ottla_init_options {
    uint32_t size;
    uint32_t threads;
    uint32_t log_level;
    uint32_t reserved;
    struct ottla_slice name;
};

/* What the worker offers. It stays for ever. */
struct ottla_host {
    uint32_t size;
    uint16_t abi_major;
    uint16_t abi_minor;
    void (*done)(uint64_t ticket, int32_t status, const struct ottla_message *reply);
    int32_t (*call)(uint64_t context, uint32_t method, const struct ottla_message *request, struct ottla_message *reply);
    void (*log)(uint32_t level, struct ottla_slice task, struct ottla_slice target, struct ottla_slice message);
};

/* What a library exports as OTTLA_PLUGIN_LIBRARY. */
struct ottla_descriptor {
    uint32_t size;
    uint16_t abi_major;
    uint16_t abi_minor;
    uint32_t flags;
    uint32_t reserved;
    struct ottla_slice note;
    int32_t (*init)(const struct ottla_host *host, const struct ottla_init_options *options, struct ottla_message *reply);
    int32_t (*call)(uint64_t object, uint32_t method, const struct ottla_message *request, struct ottla_message *reply);
    void (*start)(uint64_t object, uint32_t method, const struct ottla_message *request, uint64_t ticket);
    void (*cancel)(uint64_t object, uint64_t ticket);
    void (*release)(uint64_t object);
};

#ifdef __cplusplus
}
#endif

#endif
