/* Static rANS with contexts of neighbours: the same bytes as rans_python.py, many times faster.
 *
 * Duda 2013, "Asymmetric numeral systems". The layout of the coded bytes is in rans_python.py. The caller checks the tables; symbols and coded bytes are checked here, so that whatever they
 * hold, nothing outside of the buffers is touched and every loop ends.
 *
 * Tables: plane p uses table table_of[p]. A context of table t is of_prediction[t][prediction] +
 * of_activity[t][activity], see contexts.py; rows of the first have symbol_count entries, of the second 256,
 * and context_counts[t] says how many contexts there are: in a table of one the neighbours say nothing.
 * `cumulative` has a row of symbol_count + 1 increasing entries from 0 to 2^15 for each context, and `first`
 * one of 2^BUCKET_BITS entries: the symbol in whose interval the bucket's lowest slot lies.
 */
#include <stddef.h>
#include <stdint.h>

#define PROBABILITY_BITS 15
#define SLOT_MASK ((1u << PROBABILITY_BITS) - 1)
#define LOWEST_STATE (1u << 16)
#define FIRST_STATE 1u
#define BUCKET_BITS 8
#define BUCKET_SHIFT (PROBABILITY_BITS - BUCKET_BITS)

enum { COMPLETE = 0, BAD_STATE = 1, DOES_NOT_END = 2, BAD_SYMBOL = -1, BUFFER_TOO_SMALL = -2 };

typedef struct {
    const uint16_t *of_prediction;
    const uint8_t *of_activity;
} contexts;

static inline int distance(int one, int other)
{
    return one < other ? other - one : one - other;
}

static inline int context_of(const contexts *of, int left, int up, int up_left, int up_right)
{
    const int low = left < up ? left : up, high = left < up ? up : left, plane = left + up - up_left;
    const int prediction = plane < low ? low : plane > high ? high : plane;
    const int activity = distance(left, up_left) + distance(up, up_left) + distance(up, up_right);
    return of->of_prediction[prediction] + of->of_activity[activity < 255 ? activity : 255];
}

typedef struct {
    uint32_t state;
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
    to->state = ((state / frequency) << PROBABILITY_BITS) + state % frequency + begin;
    return COMPLETE;
}

/* What lies outside of the plane counts as symbol 0; `inside`: whether there is a row above. */
static inline int put_row(writer *to, const contexts *of, const uint8_t *row, int64_t width, const int inside,
                          const uint16_t *cumulative, int64_t stride)
{
    const uint8_t *above = row - (inside ? width : 0);
    int up_right = 0, up = inside ? above[width - 1] : 0;
    for (int64_t column = width - 1; column >= 0; column--) {
        int left = column ? row[column - 1] : 0, up_left = inside && column ? above[column - 1] : 0;
        int problem = put(to, cumulative + context_of(of, left, up, up_left, up_right) * stride, row[column]);
        if (problem)
            return problem;
        up_right = up;
        up = up_left;
    }
    return COMPLETE;
}

/* Returns the number of bytes, which lie at the end of `buffer`, or a negative reason. */
int64_t coopexport_rans_encode(const uint8_t *symbols, int64_t planes, int64_t height, int64_t width,
                               const uint8_t *table_of, const uint16_t *of_prediction, const uint8_t *of_activity,
                               const uint16_t *context_counts, int64_t symbol_count, const uint16_t *cumulative,
                               uint8_t *buffer, int64_t capacity)
{
    const int64_t stride = symbol_count + 1, size = height * width;
    writer to = {FIRST_STATE, buffer, buffer + capacity};
    int problem = COMPLETE;
    for (int64_t index = 0; index < planes * size; index++)
        if (symbols[index] >= symbol_count)
            return BAD_SYMBOL;
    for (int64_t plane = planes - 1; plane >= 0; plane--) {
        const int table = table_of[plane];
        const contexts of = {of_prediction + table * symbol_count, of_activity + table * 256};
        const uint8_t *first = symbols + plane * size;
        if (context_counts[table] == 1) {
            const uint16_t *row = cumulative + of.of_prediction[0] * stride;
            for (int64_t index = size - 1; index >= 0 && !problem; index--)
                problem = put(&to, row, first[index]);
        } else {
            for (int64_t row = height - 1; row > 0 && !problem; row--)
                problem = put_row(&to, &of, first + row * width, width, 1, cumulative, stride);
            if (!problem)
                problem = put_row(&to, &of, first, width, 0, cumulative, stride);
        }
        if (problem)
            return problem;
    }
    if (to.next - to.start < 4)
        return BUFFER_TOO_SMALL;
    for (int shift = 24; shift >= 0; shift -= 8)
        if (to.state >> shift)
            *--to.next = (uint8_t)(to.state >> shift);
    return buffer + capacity - to.next;
}

typedef struct {
    uint32_t state;
    const uint8_t *next, *end;
} reader;

static inline int take(reader *from, const uint16_t *cumulative, const uint8_t *first)
{
    uint32_t slot = from->state & SLOT_MASK, state, begin;
    unsigned symbol = first[slot >> BUCKET_SHIFT];
    while (cumulative[symbol + 1] <= slot)
        symbol++;
    begin = cumulative[symbol];
    state = (cumulative[symbol + 1] - begin) * (from->state >> PROBABILITY_BITS) + slot - begin;
    if (state < LOWEST_STATE && from->next != from->end) {
        state = state << 16 | (uint32_t)from->next[1] << 8 | from->next[0];
        from->next += 2;
    }
    from->state = state;
    return (int)symbol;
}

static inline void take_row(reader *from, const contexts *of, uint8_t *row, int64_t width, const int inside,
                           const uint16_t *cumulative, int64_t stride, const uint8_t *first)
{
    const uint8_t *above = row - (inside ? width : 0);
    int left = 0, up_left = 0, up = inside ? above[0] : 0;
    for (int64_t column = 0; column < width; column++) {
        int up_right = inside && column + 1 < width ? above[column + 1] : 0;
        int64_t context = context_of(of, left, up, up_left, up_right);
        left = take(from, cumulative + context * stride, first + (context << BUCKET_BITS));
        row[column] = (uint8_t)left;
        up_left = up;
        up = up_right;
    }
}

/* Returns 0, or why `coded` is not the code of planes * height * width symbols. */
int64_t coopexport_rans_decode(const uint8_t *coded, int64_t size, uint8_t *symbols, int64_t planes, int64_t height,
                               int64_t width, const uint8_t *table_of, const uint16_t *of_prediction,
                               const uint8_t *of_activity, const uint16_t *context_counts, int64_t symbol_count,
                               const uint16_t *cumulative, const uint8_t *first)
{
    const int64_t stride = symbol_count + 1;
    const int64_t state_bytes = size <= 4 ? size : 4 - size % 2;
    reader from = {0, coded + state_bytes, coded + size};
    for (int64_t index = state_bytes - 1; index >= 0; index--)
        from.state = from.state << 8 | coded[index];
    if (state_bytes && !coded[state_bytes - 1])
        return BAD_STATE;
    for (int64_t plane = 0; plane < planes; plane++) {
        const int table = table_of[plane];
        const contexts of = {of_prediction + table * symbol_count, of_activity + table * 256};
        uint8_t *to = symbols + plane * height * width;
        if (context_counts[table] == 1) {
            const int64_t context = of.of_prediction[0];
            for (int64_t index = 0; index < height * width; index++)
                to[index] = (uint8_t)take(&from, cumulative + context * stride, first + (context << BUCKET_BITS));
        } else {
            take_row(&from, &of, to, width, 0, cumulative, stride, first);
            for (int64_t row = 1; row < height; row++)
                take_row(&from, &of, to + row * width, width, 1, cumulative, stride, first);
        }
    }
    return from.next == from.end && from.state == FIRST_STATE ? COMPLETE : DOES_NOT_END;
}
