/* fvcb: reads a .fvcb binary as a driver would: checks every hash, loads text and constants, prints a summary.
 *
 *     cc -std=c99 -O2 -o fvcb fvcb.c && ./fvcb bin/u280-0.fvcb
 *
 * Written from docs/container.md and docs/isa.md alone; C99, no dependencies. Exit code 0: the file is sound;
 * 1: it is not, and stderr says why; 2: it cannot be read.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- SHA-256 (FIPS 180-4) and CRC-32 (IEEE 802.3) */

typedef struct {
    uint32_t h[8];
    uint64_t length;
    uint8_t block[64];
    size_t used;
} Sha256;

static const uint32_t SHA_K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

static void sha_block(Sha256 *s, const uint8_t *p)
{
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ (w[i - 15] >> 3);
        uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ (w[i - 2] >> 10);
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(v, s->h, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t a = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
        uint32_t t = v[7] + a + ((v[4] & v[5]) ^ (~v[4] & v[6])) + SHA_K[i] + w[i];
        uint32_t b = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
        uint32_t u = b + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t;
        v[0] = t + u;
    }
    for (int i = 0; i < 8; i++) s->h[i] += v[i];
}

static void sha_start(Sha256 *s)
{
    static const uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->h, h, sizeof h);
    s->length = 0;
    s->used = 0;
}

static void sha_add(Sha256 *s, const void *data, size_t size)
{
    const uint8_t *p = data;
    s->length += size;
    while (size) {
        size_t n = 64 - s->used < size ? 64 - s->used : size;
        memcpy(s->block + s->used, p, n);
        s->used += n;
        p += n;
        size -= n;
        if (s->used == 64) {
            sha_block(s, s->block);
            s->used = 0;
        }
    }
}

static void sha_end(Sha256 *s, uint8_t out[32])
{
    static const uint8_t pad[64] = {0x80};
    uint64_t bits = s->length * 8;
    uint8_t length[8];
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha_add(s, pad, s->used < 56 ? 56 - s->used : 120 - s->used);
    sha_add(s, length, 8);
    for (int i = 0; i < 8; i++)
        for (int k = 0; k < 4; k++) out[4 * i + k] = (uint8_t)(s->h[i] >> (24 - 8 * k));
}

static void sha256(const void *data, size_t size, uint8_t out[32])
{
    Sha256 s;
    sha_start(&s);
    sha_add(&s, data, size);
    sha_end(&s, out);
}

static uint32_t crc32(const uint8_t *p, size_t n)
{
    static uint32_t table[256];
    if (!table[1])
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
            table[i] = c;
        }
    uint32_t c = 0xffffffffu;
    while (n--) c = table[(c ^ *p++) & 255] ^ (c >> 8);
    return ~c;
}

/* ---------------------------------------------------------------- the file */

enum { STRINGS = 1, DEVICE, HARDWARE, CORES, QUEUES, TEXT, CONSTANTS, RELOCATIONS, SYMBOLS, MEMORY_MAP, PACKETS, HOST_IO,
       OUTPUTS, ALIASES, CHANNELS, LINKS, GOLDEN, DEBUG, FOLDING, NOTE, KNOWN };
static const char *const NAMES[KNOWN] = {0, "STRINGS", "DEVICE", "HARDWARE", "CORES", "QUEUES", "TEXT", "CONSTANTS",
    "RELOCATIONS", "SYMBOLS", "MEMORY_MAP", "PACKETS", "HOST_IO", "OUTPUTS", "ALIASES", "CHANNELS", "LINKS", "GOLDEN", "DEBUG",
    "FOLDING", "NOTE"};
/* cells of each table's row: 4 u32, 8 u64, i i64, s string, l list */
static const char *const CELLS[KNOWN] = {0, 0, "s44", "ssiiiiiiiiiisii", "4l888888888", "44444", 0, 0, "44444i", "4s88",
    "4ssl884", "44s4", "44ssllll4444", "ss", "ssl", "44448sl", "s88", "44s4", "4sssls", 0, 0};
static const char *const QUEUE_NAMES[6] = {"LD", "CX", "ST", "TX", "RX", "CTL"};

typedef struct { const uint8_t *data; uint64_t size; } Bytes;
typedef struct { const uint8_t *rows, *pool; uint64_t count, row_bytes, pool_items; const char *cells; } Table;
typedef struct {
    uint32_t rank;
    const uint8_t *constants; /* the CONST image, in the file */
    uint64_t constants_bytes, work_bytes;
    const uint8_t *text[6]; /* the words of each queue, in the file */
    uint64_t words[6], instructions[6];
} Core;

static Bytes section[KNOWN];
static Table table[KNOWN];

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("fvcb: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static uint64_t number(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    while (bytes--) v = v << 8 | p[bytes];
    return v;
}

static uint64_t align(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

static int all_zero(const uint8_t *p, uint64_t n)
{
    while (n--)
        if (*p++) return 0;
    return 1;
}

static uint8_t *read_file(const char *path, uint64_t *size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    uint64_t room = 0, used = 0;
    if (!f) {
        perror(path);
        exit(2);
    }
    for (;;) {
        if (used == room) {
            room = room ? 2 * room : 1 << 16;
            uint8_t *more = realloc(data, room);
            if (!more) fail("out of memory");
            data = more;
        }
        size_t n = fread(data + used, 1, room - used, f);
        if (!n) break;
        used += n;
    }
    fclose(f);
    *size = used;
    return data;
}

static void read_header(const uint8_t *d, uint64_t size)
{
    static const uint8_t magic[8] = {'F', 'V', 'C', 'B', '\r', '\n', 0x1a, '\n'}, zeros[32];
    uint8_t digest[32];
    Sha256 s;
    if (size < 128 || memcmp(d, magic, 8)) fail("not an .fvcb file");
    if (number(d + 8, 2) != 1 || number(d + 12, 4) != 1) fail("unknown version");
    if (number(d + 24, 8) != size) fail("the file is cut off");
    uint64_t count = number(d + 16, 4), at = 128 + 64 * count, previous = 0;
    if (count > 64 || at > size) fail("too many sections");
    sha_start(&s);
    sha_add(&s, d, 64);
    sha_add(&s, zeros, 32);
    sha_add(&s, d + 96, at - 96);
    sha_end(&s, digest);
    if (memcmp(digest, d + 64, 32)) fail("the header's hash does not match");
    if (number(d + 20, 4) || !all_zero(d + 96, 32)) fail("reserved bytes of the header are not zero");
    for (uint64_t k = 0; k < count; k++) {
        const uint8_t *e = d + 128 + 64 * k;
        uint64_t type = number(e, 4), flags = number(e + 4, 4), alignment = number(e + 8, 4);
        uint64_t offset = number(e + 16, 8), length = number(e + 24, 8);
        if (type <= previous || flags > 1 || number(e + 12, 4)) fail("section entry %d is malformed", (int)k);
        if (!alignment || alignment > 4096 || alignment & (alignment - 1)) fail("section %d: bad alignment", (int)k);
        if (offset != align(at, alignment) || offset > size || length > size - offset) fail("section %d is out of place", (int)k);
        if (!all_zero(d + at, offset - at)) fail("bytes before section %d are not zero", (int)k);
        sha256(d + offset, length, digest);
        if (memcmp(digest, e + 32, 32)) fail("section %d: the hash does not match", (int)type);
        if (type < KNOWN) {
            section[type].data = d + offset;
            section[type].size = length;
            printf("section %s offset %" PRIu64 " size %" PRIu64 "\n", NAMES[type], offset, length);
        } else if (flags & 1)
            fail("section %d is critical and unknown", (int)type);
        previous = type;
        at = offset + length;
    }
    if (at != size) fail("bytes after the last section");
    for (int t = 1; t < DEBUG; t++)
        if (!section[t].data) fail("section %s is missing", NAMES[t]);
}

/* ---------------------------------------------------------------- tables and strings */

static uint64_t string_count(void) { return number(section[STRINGS].data, 4); }

static void read_strings(void)
{
    Bytes s = section[STRINGS];
    if (s.size < 8 || 4 * (string_count() + 2) > s.size) fail("STRINGS is damaged");
    uint64_t room = s.size - 4 * (string_count() + 2), last = 0;
    for (uint64_t k = 0; k <= string_count(); k++) {
        uint64_t end = number(s.data + 4 + 4 * k, 4);
        if (end < last || (k == 0 && end)) fail("STRINGS is damaged");
        last = end;
    }
    if (last != room) fail("STRINGS is damaged");
}

static void print_string(uint64_t k)
{
    const uint8_t *ends = section[STRINGS].data + 4, *text = ends + 4 * (string_count() + 1);
    uint64_t from = number(ends + 4 * k, 4), to = number(ends + 4 * k + 4, 4);
    fwrite(text + from, 1, (size_t)(to - from), stdout);
}

static int cell_bytes(char kind) { return kind == '4' || kind == 's' ? 4 : 8; }

static uint64_t cell(const Table *t, uint64_t row, int column)
{
    const uint8_t *p = t->rows + row * t->row_bytes;
    for (int k = 0; k < column; k++) p += cell_bytes(t->cells[k]);
    return number(p, cell_bytes(t->cells[column]));
}

static void read_table(int type)
{
    Bytes s = section[type];
    Table *t = &table[type];
    uint64_t row_bytes = 0, next = 0;
    t->cells = CELLS[type];
    for (const char *c = t->cells; *c; c++) row_bytes += (uint64_t)cell_bytes(*c);
    if (s.size < 16) fail("%s is damaged", NAMES[type]);
    t->count = number(s.data, 4);
    t->row_bytes = number(s.data + 4, 4);
    t->pool_items = number(s.data + 8, 8);
    uint64_t body = t->count * row_bytes;
    if (t->row_bytes != row_bytes || 16 + align(body, 8) > s.size || t->pool_items != (s.size - 16 - align(body, 8)) / 8 ||
        s.size % 8)
        fail("%s: its counts do not fill it", NAMES[type]);
    t->rows = s.data + 16;
    t->pool = t->rows + align(body, 8);
    if (!all_zero(t->rows + body, align(body, 8) - body)) fail("%s: padding is not zero", NAMES[type]);
    for (uint64_t r = 0; r < t->count; r++)
        for (int c = 0; t->cells[c]; c++) {
            uint64_t v = cell(t, r, c);
            if (t->cells[c] == 's' && v >= string_count()) fail("%s names a string that is not there", NAMES[type]);
            if (t->cells[c] == '8' && v >> 63) fail("%s: a number is too large", NAMES[type]);
            if (t->cells[c] == 'l') {
                if ((v & 0xffffffffu) != next) fail("%s: lists do not follow one another", NAMES[type]);
                next += v >> 32;
            }
        }
    if (next != t->pool_items) fail("%s: lists do not fill the pool", NAMES[type]);
}

/* ---------------------------------------------------------------- loading */

static const struct { int code, words; const char *name; } OPCODES[] = {
    {0x00, 1, "SYNC"}, {0x01, 3, "LD"}, {0x02, 2, "ST"}, {0x03, 3, "TX"}, {0x04, 3, "RX"}, {0x10, 2, "MAC"}, {0x20, 2, "VREQ"},
    {0x21, 3, "VBIN"}, {0x22, 1, "VACC"}, {0x23, 3, "VPOOL"}, {0x24, 2, "VSUM"}, {0x25, 3, "VCOPY"}, {0x26, 1, "VFILL"},
    {0x27, 2, "VARG"}, {0x30, 2, "CRC"}, {0x31, 1, "END"}};
enum { OPS = sizeof OPCODES / sizeof *OPCODES };

static void count_instructions(const Core *core, int queue, uint64_t mix[OPS])
{
    uint64_t at = 0, found = 0;
    while (at < core->words[queue]) {
        uint64_t head = number(core->text[queue] + 32 * at, 8);
        int k = 0;
        while (k < OPS && OPCODES[k].code != (int)(head & 255)) k++;
        if (k == OPS || (int)(head >> 12 & 15) != OPCODES[k].words) fail("unknown instruction");
        if ((int)(head >> 8 & 15) != queue) fail("an instruction stands in the wrong queue");
        at += (uint64_t)OPCODES[k].words;
        mix[k]++;
        found++;
    }
    if (at != core->words[queue] || found != core->instructions[queue]) fail("an instruction is cut off or missing");
}

static void load_cores(Core *cores)
{
    uint64_t at = 0, text_words = section[TEXT].size / 32, word = 0;
    if (section[TEXT].size % 32 || table[HARDWARE].count != table[CORES].count) fail("TEXT or HARDWARE is damaged");
    for (uint64_t c = 0; c < table[CORES].count; c++) {
        uint64_t offset = cell(&table[CORES], c, 2), bytes = cell(&table[CORES], c, 3);
        if (offset != align(at, 64) || offset > section[CONSTANTS].size || bytes > section[CONSTANTS].size - offset)
            fail("CORES: constants are out of place");
        cores[c].rank = (uint32_t)cell(&table[CORES], c, 0);
        cores[c].constants = section[CONSTANTS].data + offset;
        cores[c].constants_bytes = bytes;
        cores[c].work_bytes = cell(&table[CORES], c, 4);
        at = offset + bytes;
    }
    if (at != section[CONSTANTS].size) fail("CONSTANTS: bytes that belong to no core");
    for (uint64_t r = 0; r < table[QUEUES].count; r++) {
        const Table *t = &table[QUEUES];
        uint64_t c = cell(t, r, 0), q = cell(t, r, 1), first = cell(t, r, 2), words = cell(t, r, 3);
        if (c >= table[CORES].count || q >= 6 || first != word || words > text_words - word) fail("QUEUES is damaged");
        cores[c].text[q] = section[TEXT].data + 32 * first;
        cores[c].words[q] = words;
        cores[c].instructions[q] = cell(t, r, 4);
        word += words;
    }
    if (word != text_words) fail("QUEUES does not cover TEXT");
}

static void check_golden(const Core *cores)
{
    uint64_t symbol = 0;
    for (uint64_t r = 0; r < table[GOLDEN].count; r++) {
        uint64_t c = cell(&table[GOLDEN], r, 0), kind = cell(&table[GOLDEN], r, 1), crc = cell(&table[GOLDEN], r, 3);
        if (c >= table[CORES].count) fail("GOLDEN names a core that is not there");
        if (kind == 2 && crc32(cores[c].constants, (size_t)cores[c].constants_bytes) != crc) fail("golden CRC of constants differs");
        if (kind != 0) continue;
        if (symbol >= table[SYMBOLS].count) fail("GOLDEN has more symbols than SYMBOLS");
        uint64_t offset = cell(&table[SYMBOLS], symbol, 2), bytes = cell(&table[SYMBOLS], symbol, 3);
        if (cell(&table[SYMBOLS], symbol, 0) != c || offset > cores[c].constants_bytes || bytes > cores[c].constants_bytes - offset)
            fail("SYMBOLS leaves CONST");
        if (crc32(cores[c].constants + offset, (size_t)bytes) != crc) fail("golden CRC of a symbol differs");
        symbol++;
    }
    if (symbol != table[SYMBOLS].count) fail("a symbol has no golden CRC");
}

int main(int argc, char **argv)
{
    uint64_t size;
    if (argc != 2) {
        fputs("usage: fvcb FILE.fvcb\n", stderr);
        return 2;
    }
    uint8_t *data = read_file(argv[1], &size);
    read_header(data, size);
    read_strings();
    for (int t = 1; t < KNOWN; t++)
        if (CELLS[t] && section[t].data) read_table(t);
    if (table[DEVICE].count != 1) fail("DEVICE has not one row");
    Core *cores = calloc(table[CORES].count ? table[CORES].count : 1, sizeof *cores);
    if (!cores) fail("out of memory");
    load_cores(cores);
    check_golden(cores);

    printf("device ");
    print_string(cell(&table[DEVICE], 0, 0));
    printf("\n");
    for (uint64_t c = 0; c < table[CORES].count; c++) {
        printf("core %" PRIu32 " engine ", cores[c].rank);
        print_string(cell(&table[HARDWARE], c, 0));
        printf(" %" PRIu64 "x%" PRIu64 " constants %" PRIu64 " crc %08" PRIx32 " work %" PRIu64 "\n", cell(&table[HARDWARE], c, 2),
               cell(&table[HARDWARE], c, 3), cores[c].constants_bytes,
               crc32(cores[c].constants, (size_t)cores[c].constants_bytes), cores[c].work_bytes);
        for (int q = 0; q < 6; q++) {
            uint64_t mix[OPS] = {0};
            if (cores[c].words[q]) count_instructions(&cores[c], q, mix);
            printf("  %s", QUEUE_NAMES[q]);
            for (int k = 0; k < OPS; k++)
                if (mix[k]) printf(" %s %" PRIu64, OPCODES[k].name, mix[k]);
            printf("\n");
        }
    }
    printf("channels %" PRIu64 " host messages %" PRIu64 " relocations %" PRIu64 "\n", table[CHANNELS].count,
           table[HOST_IO].count, table[RELOCATIONS].count);
    free(cores);
    free(data);
    return 0;
}
