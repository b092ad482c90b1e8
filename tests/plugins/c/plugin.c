/* Sinks without a line of Rust: whatever a worker needs of a library stands in `ottla_plugin.h`.
 *
 * `c-sink` keeps the contract. The others break it, each in one way:
 *
 *   c-twice   completes every call twice
 *   c-never   never completes `put`
 *   c-blocks  its `start` function does not return from `put`
 *   c-late    completes `put` when the worker has given it up: after its cancel, at the release of the task
 *   c-liar    answers `put` with a status that does not exist
 *   c-cut     answers `flush` with a body that is cut off
 *
 *     cc -shared -fPIC -DTARGET='"x86_64-unknown-linux-gnu"' -I core/plugin-abi -o libc_plugins.so plugin.c
 *
 * Each of these, defined, makes a library that a worker does not take: HANGS_AT_LOADING, HANGS_IN_INIT, HANGS_AT_THE_TEST,
 * FAILS_THE_TEST, HANGS_AT_THE_END (that one is taken, and must not keep the worker from ending).
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ottla_plugin.h"

enum behaviour { SINK, TWICE, NEVER, BLOCKS, LATE, LIAR, CUT, BEHAVIOURS };

static const char *const NAMES[BEHAVIOURS] = {"c-sink", "c-twice", "c-never", "c-blocks", "c-late",
                                                "c-liar", "c-cut"};

#define VERSION "7"
#define DOC "Appends the values of records to a file."

/* The note: numbers and texts one after the other, as `note.rs` says. The compiler lays it out. */
#define TEXT(text) struct { uint32_t length; char bytes[sizeof(text) - 1]; }
#define TEXT_OF(text) {sizeof(text) - 1, text}

#define ENTRY(name) struct { uint8_t kind; TEXT(name) name_; TEXT(VERSION) version; TEXT(DOC) doc; }
#define ENTRY_OF(name) {OTTLA_SINK, TEXT_OF(name), TEXT_OF(VERSION), TEXT_OF(DOC)}

#pragma GCC diagnostic push
/* The texts have no room for a NUL, and need none. */
#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunterminated-string-initialization"
#pragma pack(push, 1)
struct note {
    char magic[8];
    uint32_t length;
    uint16_t abi_major, abi_minor;
    uint32_t sizes[4];
    uint8_t unwinds;
    TEXT(TARGET) target;
    TEXT(__VERSION__) compiler;
    TEXT("none") sdk;
    TEXT("c-plugins") name;
    TEXT(VERSION) version;
    uint32_t plugins;
    ENTRY("c-sink") sink;
    ENTRY("c-twice") twice;
    ENTRY("c-never") never;
    ENTRY("c-blocks") blocks;
    ENTRY("c-late") late;
    ENTRY("c-liar") liar;
    ENTRY("c-cut") cut;
};
#pragma pack(pop)

__attribute__((used, section(OTTLA_SECTION))) static const struct note NOTE = {
    OTTLA_MAGIC,
    sizeof(struct note),
    OTTLA_ABI_MAJOR,
    OTTLA_ABI_MINOR,
    {sizeof(struct ottla_descriptor), sizeof(struct ottla_message), sizeof(struct ottla_record),
     sizeof(struct ottla_host)},
    1, /* nothing here could panic */
    TEXT_OF(TARGET),
    TEXT_OF(__VERSION__),
    TEXT_OF("none"),
    TEXT_OF("c-plugins"),
    TEXT_OF(VERSION),
    BEHAVIOURS,
    ENTRY_OF("c-sink"),
    ENTRY_OF("c-twice"),
    ENTRY_OF("c-never"),
    ENTRY_OF("c-blocks"),
    ENTRY_OF("c-late"),
    ENTRY_OF("c-liar"),
    ENTRY_OF("c-cut"),
};
#pragma GCC diagnostic pop

static const struct ottla_host *host;

static void hang(void) {
    for (;;)
        pause();
}

#ifdef HANGS_AT_LOADING
__attribute__((constructor)) static void at_loading(void) { hang(); }
#endif
#ifdef HANGS_AT_THE_END
__attribute__((destructor)) static void at_the_end(void) { hang(); }
#endif

/* Reading what lies flat: each step moves on. What goes beyond the end is nothing. */
struct reader {
    const uint8_t *at;
    size_t left;
};

static struct ottla_slice take(struct reader *from, size_t length) {
    struct ottla_slice taken = {NULL, 0};
    if (length <= from->left) {
        taken.data = from->at, taken.len = length;
        from->at += length, from->left -= length;
    } else {
        from->left = 0;
    }
    return taken;
}

static uint64_t number(struct reader *from, size_t bytes) {
    struct ottla_slice taken = take(from, bytes);
    uint64_t value = 0;
    for (size_t i = 0; i < taken.len; i++)
        value |= (uint64_t)taken.data[i] << (8 * i);
    return value;
}

static struct ottla_slice text(struct reader *from) { return take(from, number(from, 4)); }

static int is(struct ottla_slice text, const char *word) {
    return text.data && text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

/* Writing it. */
struct writer {
    uint8_t *bytes;
    size_t len;
};

static void put_bytes(struct writer *to, const void *bytes, size_t length) {
    to->bytes = realloc(to->bytes, to->len + length + 1);
    if (!to->bytes)
        abort();
    if (length)
        memcpy(to->bytes + to->len, bytes, length);
    to->len += length;
}

static void put_number(struct writer *to, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)(value >> (8 * i));
        put_bytes(to, &byte, 1);
    }
}

static void put_text(struct writer *to, const char *text) {
    put_number(to, strlen(text), 4);
    put_bytes(to, text, strlen(text));
}

static const struct ottla_message EMPTY = {
    .size = sizeof(struct ottla_message), .record_size = sizeof(struct ottla_record)};

/* A message of what was written, which the worker lets go. */
static struct ottla_message message(struct writer written) {
    struct ottla_message made = EMPTY;
    made.body.data = written.bytes, made.body.len = written.len;
    made.owner = written.bytes, made.release = free;
    return made;
}

static void let_go(const struct ottla_message *request) {
    if (request->release)
        request->release(request->owner);
}

static void say(const char *words) {
    struct ottla_slice none = {NULL, 0}, place = {(const uint8_t *)"plugin.c", 8};
    struct ottla_slice said = {(const uint8_t *)words, strlen(words)};
    host->log(3, none, place, said);
}

/* What was put of a partition. */
struct position {
    char topic[256];
    int32_t partition;
    int64_t next;
    struct position *rest;
};

struct object {
    enum behaviour behaviour;
    FILE *file;
    struct position *positions;
    /* A call that was not answered. */
    _Atomic uint64_t unanswered;
    int is_task;
};

static int32_t fail(struct ottla_message *reply, uint8_t kind, const char *words) {
    struct writer body = {0};
    put_number(&body, kind, 1);
    put_text(&body, words);
    put_number(&body, 0, 4); /* facts */
    put_number(&body, 0, 1); /* a cause */
    *reply = message(body);
    return OTTLA_FAILED;
}

static int32_t init(const struct ottla_host *given, const struct ottla_init_options *options, struct ottla_message *reply) {
    (void)options;
    *reply = EMPTY;
#ifdef HANGS_IN_INIT
    hang();
#endif
    host = given;
    return OTTLA_OK;
}

static void list_plugins(struct writer *body) {
    put_number(body, BEHAVIOURS, 4);
    for (int i = 0; i < BEHAVIOURS; i++) {
        put_number(body, OTTLA_SINK, 1);
        put_text(body, NAMES[i]);
        put_number(body, 0, 4); /* other names */
        put_text(body, VERSION);
        put_text(body, DOC);
        put_number(body, 1, 4); /* options */
        put_number(body, 0, 1); /* its name is not a prefix */
        put_text(body, "file");
        put_number(body, 0, 4); /* other names */
        put_text(body, "path");
        put_number(body, 0, 4); /* choices */
        put_number(body, 0, 1); /* a default */
        put_number(body, 1, 1); /* required */
        put_number(body, 0, 1); /* importance: high */
        put_number(body, 0, 1); /* secret */
        put_text(body, "The file to append to.");
    }
}

/* Asked of the library itself. */
static int32_t call_library(uint32_t method, struct reader from, struct writer *body, struct ottla_message *reply) {
    switch (method) {
    case OTTLA_ECHO:
        /* An optional record comes, a record goes back: the same bytes without the first. */
#ifdef HANGS_AT_THE_TEST
        hang();
#endif
        if (number(&from, 1) == 0)
            return fail(reply, 3, "nothing to echo");
        put_bytes(body, from.at, from.left);
#ifdef FAILS_THE_TEST
        body->len -= 1;
#endif
        return OTTLA_OK;
    case OTTLA_PLUGINS:
        list_plugins(body);
        return OTTLA_OK;
    case OTTLA_CHECK_OPTION:
        put_number(body, 0, 1); /* nothing wrong */
        return OTTLA_OK;
    case OTTLA_MAKE: {
        uint32_t plugin = (uint32_t)number(&from, 4);
        struct object *made = calloc(1, sizeof *made);
        if (!made || plugin >= BEHAVIOURS)
            return fail(reply, 5, "no such plugin");
        made->behaviour = (enum behaviour)plugin;
        put_number(body, (uintptr_t)made, 8);
        return OTTLA_OK;
    }
    default:
        return OTTLA_UNKNOWN_METHOD;
    }
}

static int32_t make_task(struct object *connector, struct reader from, struct writer *body, struct ottla_message *reply) {
    struct object *task = calloc(1, sizeof *task);
    if (!task)
        return fail(reply, 5, "no memory");
    task->behaviour = connector->behaviour;
    task->is_task = 1;
    for (uint64_t left = number(&from, 4); left > 0; left--) {
        struct ottla_slice name = text(&from), value = text(&from);
        if (is(name, "file")) {
            char path[4096];
            snprintf(path, sizeof path, "%.*s", (int)value.len, (const char *)value.data);
            task->file = fopen(path, "ab");
        }
    }
    if (!task->file) {
        free(task);
        return fail(reply, 4, "file: it can't be opened for appending");
    }
    put_number(body, (uintptr_t)task, 8);
    return OTTLA_OK;
}

static int32_t call(uint64_t object, uint32_t method, const struct ottla_message *request, struct ottla_message *reply) {
    struct reader from = {request->body.data, request->body.len};
    struct writer body = {0};
    struct object *connector = (struct object *)(uintptr_t)object;
    int32_t ended = OTTLA_OK;
    *reply = EMPTY;
    if (!connector)
        ended = call_library(method, from, &body, reply);
    else if (method == OTTLA_VALIDATE)
        put_number(&body, 0, 4); /* nothing wrong */
    else if (method == OTTLA_DESTINATION)
        put_number(&body, 0, 1); /* not said */
    else if (method == OTTLA_TASK)
        ended = make_task(connector, from, &body, reply);
    else
        ended = OTTLA_UNKNOWN_METHOD;
    if (ended == OTTLA_OK)
        *reply = message(body);
    else
        free(body.bytes);
    let_go(request);
    return ended;
}

static struct position *position_of(struct object *task, struct ottla_slice topic, int32_t partition) {
    for (struct position *known = task->positions; known; known = known->rest)
        if (is(topic, known->topic) && known->partition == partition)
            return known;
    struct position *made = calloc(1, sizeof *made);
    if (!made)
        abort();
    snprintf(made->topic, sizeof made->topic, "%.*s", (int)topic.len, (const char *)topic.data);
    made->partition = partition;
    made->rest = task->positions;
    return task->positions = made;
}

static void append(struct object *task, const struct ottla_message *request) {
    struct reader from = {request->body.data, request->body.len};
    struct ottla_slice topic = text(&from);
    struct position *position = position_of(task, topic, (int32_t)number(&from, 4));
    position->next = (int64_t)number(&from, 8);
    for (size_t i = 0; i < request->records_len; i++) {
        /* Their size, not ours: a later worker's records may be longer. */
        const uint8_t *at = (const uint8_t *)request->records + i * request->record_size;
        const struct ottla_record *record = (const struct ottla_record *)(const void *)at;
        fwrite(record->raw_value.data, 1, record->raw_value.len, task->file);
        fputc('\n', task->file);
    }
}

static void durable_positions(struct object *task, struct writer *body) {
    fflush(task->file);
    fsync(fileno(task->file));
    uint32_t known = 0;
    for (struct position *position = task->positions; position; position = position->rest)
        known++;
    put_number(body, known, 4);
    for (struct position *position = task->positions; position; position = position->rest) {
        put_text(body, position->topic);
        put_number(body, (uint32_t)position->partition, 4);
        put_number(body, (uint64_t)position->next, 8);
    }
}

static void forget_positions(struct object *task) {
    while (task->positions) {
        struct position *rest = task->positions->rest;
        free(task->positions);
        task->positions = rest;
    }
}

static void start(uint64_t object, uint32_t method, const struct ottla_message *request, uint64_t ticket) {
    struct object *task = (struct object *)(uintptr_t)object;
    struct writer body = {0};
    int32_t ended = OTTLA_OK;
    if (method == OTTLA_PUT) {
        switch (task->behaviour) {
        case NEVER:
            let_go(request);
            return;
        case LATE:
            let_go(request);
            atomic_store(&task->unanswered, ticket);
            return;
        case BLOCKS:
            hang();
            return;
        case LIAR:
            ended = 4711;
            break;
        default:
            append(task, request);
        }
    } else if (method == OTTLA_OPEN) {
        put_number(&body, 0, 4); /* goes on where the group has committed */
    } else if (method == OTTLA_FLUSH) {
        durable_positions(task, &body);
        if (task->behaviour == CUT)
            body.len = 3;
    } else if (method == OTTLA_CLOSE) {
        /* All of them, in these sinks' tests. */
        forget_positions(task);
    }
    struct ottla_message reply = message(body);
    let_go(request);
    host->done(ticket, ended, &reply);
    if (task->behaviour == TWICE)
        host->done(ticket, ended, &EMPTY);
}

static void cancel(uint64_t object, uint64_t ticket) {
    (void)object, (void)ticket;
    say("heard of a cancel");
}

static void *answer_late(void *ticket) {
    say("answers late");
    host->done((uint64_t)(uintptr_t)ticket, OTTLA_OK, &EMPTY);
    return NULL;
}

static void release(uint64_t object) {
    struct object *gone = (struct object *)(uintptr_t)object;
    uint64_t ticket = atomic_load(&gone->unanswered);
    pthread_t thread;
    if (ticket && pthread_create(&thread, NULL, answer_late, (void *)(uintptr_t)ticket) == 0)
        pthread_detach(thread);
    if (gone->file)
        fclose(gone->file);
    forget_positions(gone);
    free(gone);
}

__attribute__((visibility("default"))) const struct ottla_descriptor OTTLA_PLUGIN_LIBRARY = {
    .size = sizeof(struct ottla_descriptor),
    .abi_major = OTTLA_ABI_MAJOR,
    .abi_minor = OTTLA_ABI_MINOR,
    .flags = 0, /* `start` does the work itself */
    .note = {(const uint8_t *)&NOTE, sizeof NOTE},
    .init = init,
    .call = call,
    .start = start,
    .cancel = cancel,
    .release = release,
};
