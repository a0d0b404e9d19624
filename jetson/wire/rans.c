/* Static rANS with (left, up) contexts: the same bytes as rans_python.py, 20 to 40 times faster.
 *
 * Duda 2013, "Asymmetric numeral systems"; two interleaved states as in Giesen 2014, "Interleaved entropy
 * coders". The caller checks the tables; symbols and coded bytes are checked here, so that whatever they
 * hold, nothing outside of the buffers is touched and every loop ends.
 *
 * Tables: `classes` has symbol_count entries below class_count. `cumulative` has class_count^2 rows of
 * symbol_count + 1 increasing entries from 0 to 2^15. `first` has class_count^2 rows of 2^BUCKET_BITS
 * entries: the symbol in whose interval the bucket's lowest slot lies.
 */
#include <stddef.h>
#include <stdint.h>

#define PROBABILITY_BITS 15
#define SLOT_MASK ((1u << PROBABILITY_BITS) - 1)
#define LOWEST_STATE (1u << 16)
#define BUCKET_BITS 8
#define BUCKET_SHIFT (PROBABILITY_BITS - BUCKET_BITS)

enum { COMPLETE = 0, ENDS_EARLY = 1, BAD_STATE = 2, DOES_NOT_END = 3, BAD_SYMBOL = -1, BUFFER_TOO_SMALL = -2 };

static const uint8_t outside = 0; /* the symbol that stands around a plane */

static uint32_t read_32(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void write_32(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
    bytes[2] = (uint8_t)(value >> 16);
    bytes[3] = (uint8_t)(value >> 24);
}

typedef struct {
    uint32_t state, other;
    uint8_t *start, *next; /* filled from the end */
} writer;

static inline int put(writer *to, const uint16_t *cumulative, unsigned symbol)
{
    uint32_t begin = cumulative[symbol], frequency = cumulative[symbol + 1] - begin, state = to->state;
    if (state >= frequency << 17) {
        if (to->next - to->start < 2)
            return BUFFER_TOO_SMALL;
        *--to->next = (uint8_t)(state >> 8);
        *--to->next = (uint8_t)state;
        state >>= 16;
    }
    to->state = to->other;
    to->other = ((state / frequency) << PROBABILITY_BITS) + state % frequency + begin;
    return COMPLETE;
}

/* Returns the number of bytes, which lie at the end of `buffer`, or a negative reason. */
int64_t coopexport_rans_encode(const uint8_t *symbols, int64_t planes, int64_t height, int64_t width,
                               const uint8_t *classes, int64_t class_count, int64_t symbol_count,
                               const uint16_t *cumulative, uint8_t *buffer, int64_t capacity)
{
    const int64_t stride = symbol_count + 1;
    writer to = {LOWEST_STATE, LOWEST_STATE, buffer, buffer + capacity};
    const uint8_t *symbol = symbols + planes * height * width;
    while (symbol > symbols)
        if (*--symbol >= symbol_count)
            return BAD_SYMBOL;
    for (int64_t row = planes * height - 1; row >= 0; row--) {
        const uint8_t *here = symbols + row * width;
        const int inside = row % height != 0;
        const uint8_t *above = inside ? here - width : &outside;
        for (int64_t column = width - 1; column >= 0; column--) {
            unsigned left = column ? here[column - 1] : outside;
            int64_t context = classes[left] * class_count + classes[above[inside ? column : 0]];
            int problem = put(&to, cumulative + context * stride, here[column]);
            if (problem)
                return problem;
        }
    }
    if (to.next - to.start < 8)
        return BUFFER_TOO_SMALL;
    to.next -= 8;
    /* The state used last is the one that the first symbol is decoded from. */
    write_32(to.next, to.other);
    write_32(to.next + 4, to.state);
    return buffer + capacity - to.next;
}

typedef struct {
    uint32_t state, other;
    const uint8_t *next, *end;
} reader;

static inline int take(reader *from, const uint16_t *cumulative, const uint8_t *first)
{
    uint32_t slot = from->state & SLOT_MASK, state;
    unsigned symbol = first[slot >> BUCKET_SHIFT];
    while (cumulative[symbol + 1] <= slot)
        symbol++;
    state = (cumulative[symbol + 1] - cumulative[symbol]) * (from->state >> PROBABILITY_BITS) + slot - cumulative[symbol];
    if (state < LOWEST_STATE) {
        if (from->end - from->next < 2)
            return -1;
        state = state << 16 | (uint32_t)from->next[1] << 8 | from->next[0];
        from->next += 2;
    }
    from->state = from->other;
    from->other = state;
    return (int)symbol;
}

/* Returns 0, or why `coded` is not the code of planes * height * width symbols. */
int64_t coopexport_rans_decode(const uint8_t *coded, int64_t size, uint8_t *symbols, int64_t planes, int64_t height,
                               int64_t width, const uint8_t *classes, int64_t class_count, int64_t symbol_count,
                               const uint16_t *cumulative, const uint8_t *first)
{
    const int64_t stride = symbol_count + 1;
    reader from;
    if (size < 8)
        return ENDS_EARLY;
    from.state = read_32(coded);
    from.other = read_32(coded + 4);
    from.next = coded + 8;
    from.end = coded + size;
    if (from.state < LOWEST_STATE || from.other < LOWEST_STATE)
        return BAD_STATE;
    if (class_count == 1) {
        for (int64_t index = 0; index < planes * height * width; index++) {
            int symbol = take(&from, cumulative, first);
            if (symbol < 0)
                return ENDS_EARLY;
            symbols[index] = (uint8_t)symbol;
        }
    } else {
        for (int64_t row = 0; row < planes * height; row++) {
            uint8_t *here = symbols + row * width;
            const int inside = row % height != 0;
            const uint8_t *above = inside ? here - width : &outside;
            int64_t left = classes[outside] * class_count;
            for (int64_t column = 0; column < width; column++) {
                int64_t context = left + classes[above[inside ? column : 0]];
                int symbol = take(&from, cumulative + context * stride, first + (context << BUCKET_BITS));
                if (symbol < 0)
                    return ENDS_EARLY;
                here[column] = (uint8_t)symbol;
                left = classes[symbol] * class_count;
            }
        }
    }
    if (from.next != from.end || from.state != LOWEST_STATE || from.other != LOWEST_STATE)
        return DOES_NOT_END;
    return COMPLETE;
}
