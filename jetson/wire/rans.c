/* Static rANS with contexts of neighbours: the same bytes as rans_python.py, many times faster.
 *
 * Duda 2013, "Asymmetric numeral systems"; two interleaved states as in Giesen 2014, "Interleaved entropy
 * coders". The caller checks the tables; symbols and coded bytes are checked here, so that whatever they
 * hold, nothing outside of the buffers is touched and every loop ends.
 *
 * Tables: a context is of_prediction[prediction] + of_activity[activity], see symbol_model.py; the first has
 * symbol_count entries, the second 256. `cumulative` has a row of
 * symbol_count + 1 increasing entries from 0 to 2^15 for each context, and `first` one of 2^BUCKET_BITS
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

typedef struct {
    const uint8_t *of_prediction, *of_activity;
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
                               const uint8_t *of_prediction, const uint8_t *of_activity, int64_t context_count,
                               int64_t symbol_count, const uint16_t *cumulative, uint8_t *buffer, int64_t capacity)
{
    const contexts of = {of_prediction, of_activity};
    const int64_t stride = symbol_count + 1, count = planes * height * width;
    writer to = {LOWEST_STATE, LOWEST_STATE, buffer, buffer + capacity};
    int problem = COMPLETE;
    for (int64_t index = 0; index < count; index++)
        if (symbols[index] >= symbol_count)
            return BAD_SYMBOL;
    if (context_count == 1) {
        for (int64_t index = count - 1; index >= 0 && !problem; index--)
            problem = put(&to, cumulative, symbols[index]);
    } else {
        for (int64_t row = planes * height - 1; row >= 0 && !problem; row--) {
            if (row % height)
                problem = put_row(&to, &of, symbols + row * width, width, 1, cumulative, stride);
            else
                problem = put_row(&to, &of, symbols + row * width, width, 0, cumulative, stride);
        }
    }
    if (problem)
        return problem;
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
    uint32_t slot = from->state & SLOT_MASK, state, begin;
    unsigned symbol = first[slot >> BUCKET_SHIFT];
    while (cumulative[symbol + 1] <= slot)
        symbol++;
    begin = cumulative[symbol];
    state = (cumulative[symbol + 1] - begin) * (from->state >> PROBABILITY_BITS) + slot - begin;
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

static inline int take_row(reader *from, const contexts *of, uint8_t *row, int64_t width, const int inside,
                           const uint16_t *cumulative, int64_t stride, const uint8_t *first)
{
    const uint8_t *above = row - (inside ? width : 0);
    int left = 0, up_left = 0, up = inside ? above[0] : 0;
    for (int64_t column = 0; column < width; column++) {
        int up_right = inside && column + 1 < width ? above[column + 1] : 0;
        int64_t context = context_of(of, left, up, up_left, up_right);
        left = take(from, cumulative + context * stride, first + (context << BUCKET_BITS));
        if (left < 0)
            return ENDS_EARLY;
        row[column] = (uint8_t)left;
        up_left = up;
        up = up_right;
    }
    return COMPLETE;
}

/* Returns 0, or why `coded` is not the code of planes * height * width symbols. */
int64_t coopexport_rans_decode(const uint8_t *coded, int64_t size, uint8_t *symbols, int64_t planes, int64_t height,
                               int64_t width, const uint8_t *of_prediction, const uint8_t *of_activity,
                               int64_t context_count, int64_t symbol_count, const uint16_t *cumulative,
                               const uint8_t *first)
{
    const contexts of = {of_prediction, of_activity};
    const int64_t stride = symbol_count + 1;
    int problem = COMPLETE;
    reader from;
    if (size < 8)
        return ENDS_EARLY;
    from.state = read_32(coded);
    from.other = read_32(coded + 4);
    from.next = coded + 8;
    from.end = coded + size;
    if (from.state < LOWEST_STATE || from.other < LOWEST_STATE)
        return BAD_STATE;
    if (context_count == 1) {
        for (int64_t index = 0; index < planes * height * width; index++) {
            int symbol = take(&from, cumulative, first);
            if (symbol < 0)
                return ENDS_EARLY;
            symbols[index] = (uint8_t)symbol;
        }
    } else {
        for (int64_t row = 0; row < planes * height && !problem; row++) {
            if (row % height)
                problem = take_row(&from, &of, symbols + row * width, width, 1, cumulative, stride, first);
            else
                problem = take_row(&from, &of, symbols + row * width, width, 0, cumulative, stride, first);
        }
    }
    if (problem)
        return problem;
    if (from.next != from.end || from.state != LOWEST_STATE || from.other != LOWEST_STATE)
        return DOES_NOT_END;
    return COMPLETE;
}
