/* Random tables, symbols and codes through rans.c, in buffers of exactly their size, to be run under sanitizers.
 * Prints round trips, refused codes and accepted codes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rans.c"

#define SHAPE_AND_TABLES \
    planes, height, width, table_of, of_prediction, of_activity, context_counts, symbol_count, cumulative

static uint64_t random_state = 88172645463325252u; /* xorshift64, Marsaglia 2003 */

static uint32_t draw(uint32_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % below;
}

static void make_row(uint16_t *cumulative, uint8_t *first, int symbol_count)
{
    uint32_t spare = (1u << PROBABILITY_BITS) - symbol_count, end = 0;
    for (int symbol = 0; symbol < symbol_count; symbol++) {
        uint32_t extra = symbol == symbol_count - 1 ? spare : draw(4) ? draw(spare / 4 + 1) : draw(spare + 1);
        cumulative[symbol] = (uint16_t)end;
        end += 1 + extra;
        spare -= extra;
    }
    cumulative[symbol_count] = (uint16_t)end;
    for (int bucket = 0, symbol = 0; bucket < 1 << BUCKET_BITS; bucket++) {
        while (cumulative[symbol + 1] <= bucket << BUCKET_SHIFT)
            symbol++;
        first[bucket] = (uint8_t)symbol;
    }
}

static void *copy_of(const void *bytes, int64_t size)
{
    void *copy = malloc(size ? size : 1);
    memcpy(copy, bytes, size);
    return copy;
}

int main(int argc, char **arguments)
{
    long cases = argc > 1 ? atol(arguments[1]) : 1000, round_trips = 0, refused = 0, accepted = 0;
    for (long number = 0; number < cases; number++) {
        const int symbol_count = 1 << (1 + draw(8));
        const int tables = 1 + draw(3);
        const int64_t planes = 1 + draw(3), height = 1 + draw(5), width = 1 + draw(6), count = planes * height * width;
        uint16_t *of_prediction = malloc(sizeof(uint16_t) * tables * symbol_count);
        uint16_t *context_counts = malloc(sizeof(uint16_t) * tables);
        uint8_t *of_activity = malloc(256 * tables), *table_of = malloc(planes);
        int contexts = 0;
        for (int64_t plane = 0; plane < planes; plane++)
            table_of[plane] = (uint8_t)draw(tables);
        for (int table = 0; table < tables; table++) {
            const int own_count = 1 + draw(number % 50 ? 3 : 16), activity_count = 1 + draw(number % 50 ? 3 : 16);
            for (int symbol = 0; symbol < symbol_count; symbol++)
                of_prediction[table * symbol_count + symbol] = (uint16_t)(contexts + draw(own_count) * activity_count);
            for (int activity = 0; activity < 256; activity++)
                of_activity[table * 256 + activity] = (uint8_t)draw(activity_count);
            context_counts[table] = (uint16_t)(own_count * activity_count);
            contexts += own_count * activity_count;
        }
        uint8_t *first = malloc(contexts << BUCKET_BITS);
        uint16_t *cumulative = malloc(sizeof(uint16_t) * contexts * (symbol_count + 1));
        uint8_t *symbols = malloc(count), *decoded = malloc(count), *buffer = malloc(2 * count + 4);
        for (int context = 0; context < contexts; context++)
            make_row(cumulative + context * (symbol_count + 1), first + (context << BUCKET_BITS), symbol_count);
        for (int64_t index = 0; index < count; index++)
            symbols[index] = (uint8_t)draw(symbol_count);
        int64_t size = coopexport_rans_encode(symbols, SHAPE_AND_TABLES, buffer, 2 * count + 4);
        if (size < 1)
            return 1;
        uint8_t *coded = copy_of(buffer + 2 * count + 4 - size, size);
        if (coopexport_rans_decode(coded, size, decoded, SHAPE_AND_TABLES, first) != COMPLETE
            || memcmp(symbols, decoded, count) != 0)
            return 2;
        round_trips++;
        if (coopexport_rans_encode(symbols, SHAPE_AND_TABLES, buffer, draw((uint32_t)size)) >= 0)
            return 3;
        if (symbol_count < 256) {
            symbols[draw((uint32_t)count)] = (uint8_t)(symbol_count + draw(256 - symbol_count));
            if (coopexport_rans_encode(symbols, SHAPE_AND_TABLES, buffer, 2 * count + 4) != BAD_SYMBOL)
                return 4;
        }
        free(coded);
        int64_t wrong_size = draw(3) ? size : (int64_t)draw((uint32_t)(2 * size));
        coded = malloc(wrong_size ? wrong_size : 1);
        for (int64_t index = 0; index < wrong_size; index++)
            coded[index] = (uint8_t)draw(256);
        if (wrong_size == size && draw(2)) {
            memcpy(coded, buffer + 2 * count + 4 - size, size);
            coded[draw((uint32_t)size)] ^= (uint8_t)(1 + draw(255));
        }
        if (coopexport_rans_decode(coded, wrong_size, decoded, SHAPE_AND_TABLES, first) == COMPLETE)
            accepted++;
        else
            refused++;
        free(coded), free(of_prediction), free(of_activity), free(first), free(cumulative);
        free(context_counts), free(table_of);
        free(symbols), free(decoded), free(buffer);
    }
    printf("%ld %ld %ld\n", round_trips, refused, accepted);
    return 0;
}
