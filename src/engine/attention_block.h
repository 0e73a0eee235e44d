// How a unit of attention is computed, for vectors of any width. Included by the files that are compiled for
// one kind of vector instructions each; everything here has internal linkage, since the linker would
// otherwise merge what those files share, and run instructions that a processor does not have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "engine/attention_kernel.h"

namespace syncyte {
namespace {

constexpr std::int64_t kBlock = 32;  // cells: one bit each in a row's view of a block
constexpr std::uint32_t kAllCells = 0xffffffffU;
constexpr std::uint16_t kMinusInfinity = 0xfc00;  // in half precision
constexpr float kLowest = -__builtin_inff();

template <class T>
T* moved(T* pointer, std::size_t bytes) {
    using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
    return reinterpret_cast<T*>(reinterpret_cast<Byte*>(pointer) + bytes);
}

inline std::size_t times(std::int64_t count, std::size_t stride) {
    return static_cast<std::size_t>(count) * stride;
}

// Simd: F, a vector of kWidth floats; I, of as many ints; kQueries, queries multiplied with keys at once;
// kOutputs, queries for which values are summed at once; from_half(), 16 bits a number; equal(), a bit for
// each of 32 numbers of 16 bits.
template <class Simd>
class Block {
    using F = typename Simd::F;
    using I = typename Simd::I;
    static constexpr std::int64_t kWidth = Simd::kWidth;
    static constexpr std::int64_t kVectors = kBlock / kWidth;  // of floats, one for each cell of a block
    static constexpr std::int64_t kChunk = 4;                  // vectors of a query's output summed at once
    static constexpr std::int64_t kPadding = 8;                // queries that fill the last group up
    using Lanes = std::make_integer_sequence<int, static_cast<int>(kWidth)>;

  public:
    Block(const Attention& attention, const AttentionUnit& unit, AttentionScratch& scratch)
        : attention_(attention),
          unit_(unit),
          size_(attention.size),
          keys_(moved(attention.keys, times(unit.key_head, attention.key_strides.head) +
                                          times(unit.stream, attention.key_strides.stream))),
          values_(moved(attention.values, times(unit.key_head, attention.value_strides.head) +
                                              times(unit.stream, attention.value_strides.stream))),
          mask_(moved(attention.mask, times(unit.first_row, attention.mask_strides.item) +
                                          times(unit.stream, attention.mask_strides.stream))) {
        constexpr std::int64_t kAll = kAttentionQueries + kPadding;
        float* memory = scratch.floats(
            static_cast<std::size_t>(2 * kBlock * size_ + 2 * kAll * size_ + kAll * kBlock + kAll * kWidth));
        const auto take = [&memory](std::int64_t count) {
            float* taken = memory;
            memory += count;
            return taken;
        };
        key_columns_ = take(kBlock * size_);
        value_rows_ = take(kBlock * size_);
        queries_ = take(kAll * size_);
        outputs_ = take(kAll * size_);
        weights_ = take(kAll * kBlock);
        sums_ = take(kAll * kWidth);
        read_queries();
    }

    void compute() {
        for (std::int64_t cell = 0; cell < attention_.cells; cell += kBlock) {
            const std::int64_t count = cell + kBlock <= attention_.cells ? kBlock : attention_.cells - cell;
            if (!look(cell, count)) continue;
            read_keys(cell, count);
            read_values(cell, count);
            multiply();
            for (std::int64_t i = 0; i < active_count_; ++i) weigh(i, cell, count);
            if (values_finite_) {
                add();
            } else {
                add_one_by_one();
            }
        }
        write_outputs();
    }

  private:
    static F load(const float* from) {
        F vector;
        __builtin_memcpy(&vector, from, sizeof vector);
        return vector;
    }
    static void store(float* to, F vector) { __builtin_memcpy(to, &vector, sizeof vector); }
    static F all(float value) { return value - F{}; }

    [[nodiscard]] const float* query_of(std::int64_t row, std::int64_t head) const {
        const AttentionStrides& strides = attention_.query_strides;
        return moved(attention_.queries, times(unit_.first_row + row, strides.item) +
                                             times(unit_.first_head + head, strides.head) +
                                             times(unit_.stream, strides.stream));
    }

    // Queries of a row beside each other, one for each head, times the scale.
    void read_queries() {
        float* to = queries_;
        for (std::int64_t row = 0; row < unit_.rows; ++row) {
            for (std::int64_t head = 0; head < unit_.heads; ++head, to += size_) {
                const float* from = query_of(row, head);
                for (std::int64_t i = 0; i < size_; ++i) to[i] = from[i] * attention_.scale;
            }
        }
        const std::int64_t count = unit_.rows * unit_.heads;
        for (std::int64_t i = 0; i < count; ++i) highest_[i] = kLowest;
        for (std::int64_t i = 0; i < count * kWidth; ++i) sums_[i] = 0;
        for (std::int64_t i = 0; i < (count + 1) * size_; ++i) outputs_[i] = 0;
        for (std::int64_t i = 0; i < size_; ++i) to[i] = 0;
    }

    // Which cells of the block each row sees. False: none sees any.
    bool look(std::int64_t cell, std::int64_t count) {
        active_count_ = 0;
        biased_ = false;
        for (std::int64_t row = 0; row < unit_.rows; ++row) {
            const std::uint16_t* mask =
                moved(mask_, times(row, attention_.mask_strides.item)) + static_cast<std::size_t>(cell);
            const std::uint32_t cells =
                count == kBlock ? kAllCells : (std::uint32_t{1} << static_cast<unsigned>(count)) - 1;
            const std::uint32_t seen = ~equal(mask, count, kMinusInfinity) & cells;
            if (seen == 0) continue;
            biased_ = biased_ || (seen & ~equal(mask, count, 0)) != 0;
            for (std::int64_t head = 0; head < unit_.heads; ++head) {
                active_[active_count_] = row * unit_.heads + head;
                seen_[active_count_++] = seen;
            }
        }
        // Groups are whole: what fills the last one up is a query of zeros behind the others, never written
        // out.
        const std::int64_t filling = unit_.rows * unit_.heads;
        for (std::int64_t i = active_count_; i < active_count_ + kPadding; ++i) active_[i] = filling;
        return active_count_ > 0;
    }

    static std::uint32_t equal(const std::uint16_t* numbers, std::int64_t count, std::uint16_t value) {
        if (count == kBlock) return Simd::equal(numbers, value);
        std::uint32_t found = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            found |= std::uint32_t{numbers[i] == value} << static_cast<unsigned>(i);
        }
        return found;
    }

    template <int kStep, int... kLane>
    static F lower(F a, F b, std::integer_sequence<int, kLane...> /*lanes*/) {
        return __builtin_shufflevector(a, b, ((kLane & kStep) != 0 ? int{kWidth} + kLane - kStep : kLane)...);
    }
    template <int kStep, int... kLane>
    static F upper(F a, F b, std::integer_sequence<int, kLane...> /*lanes*/) {
        return __builtin_shufflevector(a, b, ((kLane & kStep) != 0 ? int{kWidth} + kLane : kLane + kStep)...);
    }

    // Exchanges rows and columns: of squares of two, of four, and so on.
    template <int kStep = 1>
    static void transpose(F (&square)[kWidth]) {
        if constexpr (kStep < kWidth) {
            for (int i = 0; i < kWidth; ++i) {
                if ((i & kStep) != 0) continue;
                const F a = square[i];
                const F b = square[i + kStep];
                square[i] = lower<kStep>(a, b, Lanes{});
                square[i + kStep] = upper<kStep>(a, b, Lanes{});
            }
            transpose<2 * kStep>(square);
        }
    }

    // Number by number, each for all cells of the block. Behind the last cell that one is repeated: nobody
    // sees those.
    void read_keys(std::int64_t cell, std::int64_t count) {
        const std::size_t stride = attention_.key_strides.item;
        for (std::int64_t first = 0; first < kBlock; first += kWidth) {
            const std::uint16_t* rows[kWidth];
            for (std::int64_t i = 0; i < kWidth; ++i) {
                const std::int64_t there = first + i < count ? first + i : count - 1;
                rows[i] = moved(keys_, times(cell + there, stride));
            }
            for (std::int64_t number = 0; number < size_; number += kWidth) {
                F square[kWidth];
                for (std::int64_t i = 0; i < kWidth; ++i) square[i] = Simd::from_half(rows[i] + number);
                transpose(square);
                for (std::int64_t i = 0; i < kWidth; ++i) {
                    store(key_columns_ + (number + i) * kBlock + first, square[i]);
                }
            }
        }
    }

    void read_values(std::int64_t cell, std::int64_t count) {
        cells_ = count;
        F zeros{};
        for (std::int64_t i = 0; i < count; ++i) {
            const std::uint16_t* from = moved(values_, times(cell + i, attention_.value_strides.item));
            float* to = value_rows_ + i * size_;
            for (std::int64_t number = 0; number < size_; number += kWidth) {
                const F vector = Simd::from_half(from + number);
                zeros += vector * 0.0F;  // of infinity: no number
                store(to + number, vector);
            }
        }
        values_finite_ = true;
        for (std::int64_t i = 0; i < kWidth; ++i) values_finite_ = values_finite_ && zeros[i] == 0;
    }

    // Queries times keys.
    void multiply() {
        constexpr std::int64_t kGroup = Simd::kQueries;
        for (std::int64_t first = 0; first < active_count_; first += kGroup) {
            const float* queries[kGroup];
            for (std::int64_t i = 0; i < kGroup; ++i) queries[i] = queries_ + active_[first + i] * size_;
            F sums[kGroup][kVectors] = {};
            for (std::int64_t number = 0; number < size_; ++number) {
                F keys[kVectors];
                for (std::int64_t v = 0; v < kVectors; ++v) {
                    keys[v] = load(key_columns_ + number * kBlock + v * kWidth);
                }
#pragma GCC unroll 8
                for (std::int64_t i = 0; i < kGroup; ++i) {
                    const F query = all(queries[i][number]);
#pragma GCC unroll 4
                    for (std::int64_t v = 0; v < kVectors; ++v) sums[i][v] += query * keys[v];
                }
            }
            for (std::int64_t i = 0; i < kGroup; ++i) {
                for (std::int64_t v = 0; v < kVectors; ++v) {
                    store(weights_ + (first + i) * kBlock + v * kWidth, sums[i][v]);
                }
            }
        }
    }

    // e to the power of what is 0 at most, or no number: 2^n times the Taylor series of 2^f, |f| <= 1/2.
    static F exp(F exponent) {
        constexpr float kLog2E = 1.44269504F;
        constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: its last bit counts ones
        F power = exponent * kLog2E;
        power = power > -126.0F ? power : all(-126.0F);
        const F rounded = power + kRound;
        const F rest = power - (rounded - kRound);
        F series = rest * 1.54035304e-4F + 1.33335581e-3F;
        series = series * rest + 9.61812911e-3F;
        series = series * rest + 5.55041087e-2F;
        series = series * rest + 2.40226507e-1F;
        series = series * rest + 6.93147181e-1F;
        series = series * rest + 1.0F;
        const I bits = reinterpret_cast<I>(series) + (reinterpret_cast<I>(rounded) << 23);
        const F result = exponent < -87.0F ? F{} : reinterpret_cast<F>(bits);
        return exponent == exponent ? result : exponent;
    }

    template <int... kLane>
    static I lane_numbers(std::integer_sequence<int, kLane...> /*lanes*/) {
        return I{kLane...};
    }

    // From products to weights: the softmax so far.
    void weigh(std::int64_t place, std::int64_t cell, std::int64_t count) {
        const std::int64_t query = active_[place];
        float* weights = weights_ + place * kBlock;
        if (biased_) add_bias(weights, query / unit_.heads, cell, count);
        F products[kVectors];
        for (std::int64_t v = 0; v < kVectors; ++v) {
            products[v] = load(weights + v * kWidth);
            if (seen_[place] == kAllCells) continue;
            const I bits = static_cast<int>(seen_[place] >> (v * kWidth)) - I{};
            const I seen = (bits >> lane_numbers(Lanes{})) & 1;
            products[v] = seen != 0 ? products[v] : all(kLowest);
        }
        F most = products[0];
        for (std::int64_t v = 1; v < kVectors; ++v) most = most > products[v] ? most : products[v];
        float highest = highest_[query];
        for (std::int64_t i = 0; i < kWidth; ++i) highest = most[i] > highest ? most[i] : highest;
        const float before = highest_[query] == highest ? 1.0F : exp(all(highest_[query] - highest))[0];
        highest_[query] = highest;
        if (highest == kLowest) highest = 0;  // products of minus infinity: their weights are 0
        before_[place] = before;
        F sum = load(sums_ + query * kWidth) * before;
        for (std::int64_t v = 0; v < kVectors; ++v) {
            const F weight = exp(products[v] - highest);
            sum += weight;
            store(weights + v * kWidth, weight);
        }
        store(sums_ + query * kWidth, sum);
    }

    void add_bias(float* products, std::int64_t row, std::int64_t cell, std::int64_t count) const {
        const std::uint16_t* mask =
            moved(mask_, times(row, attention_.mask_strides.item)) + static_cast<std::size_t>(cell);
        std::uint16_t padded[kBlock] = {};
        __builtin_memcpy(padded, mask, times(count, sizeof *mask));
        for (std::int64_t v = 0; v < kBlock; v += kWidth) {
            store(products + v, load(products + v) + Simd::from_half(padded + v));
        }
    }

    // Weights times values.
    void add() {
        for (std::int64_t first = 0; first < active_count_; first += Simd::kOutputs) {
            std::int64_t number = 0;
            for (; number + kChunk * kWidth <= size_; number += kChunk * kWidth) add<kChunk>(first, number);
            for (; number < size_; number += kWidth) add<1>(first, number);
        }
    }

    template <std::int64_t kCount>
    void add(std::int64_t first, std::int64_t number) {
        constexpr std::int64_t kGroup = Simd::kOutputs;
        F sums[kGroup][kCount];
        for (std::int64_t i = 0; i < kGroup; ++i) {
            const float* output = outputs_ + active_[first + i] * size_ + number;
            for (std::int64_t v = 0; v < kCount; ++v)
                sums[i][v] = load(output + v * kWidth) * before_[first + i];
        }
        const float* weights = weights_ + first * kBlock;
        for (std::int64_t cell = 0; cell < cells_; ++cell) {
            F values[kCount];
            for (std::int64_t v = 0; v < kCount; ++v) {
                values[v] = load(value_rows_ + cell * size_ + number + v * kWidth);
            }
#pragma GCC unroll 8
            for (std::int64_t i = 0; i < kGroup; ++i) {
                const F weight = all(weights[i * kBlock + cell]);
#pragma GCC unroll 4
                for (std::int64_t v = 0; v < kCount; ++v) sums[i][v] += weight * values[v];
            }
        }
        for (std::int64_t i = 0; i < kGroup; ++i) {
            float* output = outputs_ + active_[first + i] * size_ + number;
            for (std::int64_t v = 0; v < kCount; ++v) store(output + v * kWidth, sums[i][v]);
        }
    }

    // Where a value is infinite or no number, it must not reach those who do not see its cell: zero times
    // infinity is no number either.
    void add_one_by_one() {
        for (std::int64_t place = 0; place < active_count_; ++place) {
            float* output = outputs_ + active_[place] * size_;
            for (std::int64_t i = 0; i < size_; ++i) output[i] *= before_[place];
            for (std::int64_t cell = 0; cell < cells_; ++cell) {
                if (((seen_[place] >> static_cast<unsigned>(cell)) & 1U) == 0) continue;
                const float weight = weights_[place * kBlock + cell];
                const float* value = value_rows_ + cell * size_;
                for (std::int64_t i = 0; i < size_; ++i) output[i] += weight * value[i];
            }
        }
    }

    void write_outputs() {
        const AttentionStrides& strides = attention_.output_strides;
        for (std::int64_t query = 0; query < unit_.rows * unit_.heads; ++query) {
            float sum = 0;
            for (std::int64_t i = 0; i < kWidth; ++i) sum += sums_[query * kWidth + i];
            const float part = sum == 0 ? 0 : 1 / sum;
            float* to =
                moved(attention_.output, times(unit_.first_row + query / unit_.heads, strides.item) +
                                             times(unit_.first_head + query % unit_.heads, strides.head) +
                                             times(unit_.stream, strides.stream));
            for (std::int64_t i = 0; i < size_; ++i) to[i] = outputs_[query * size_ + i] * part;
        }
    }

    const Attention& attention_;
    const AttentionUnit& unit_;
    const std::int64_t size_;
    const std::uint16_t* keys_;
    const std::uint16_t* values_;
    const std::uint16_t* mask_;

    float* key_columns_;  // numbers by cells
    float* value_rows_;   // cells by numbers
    float* queries_;      // by numbers, as are the outputs
    float* outputs_;
    float* weights_;  // active queries by cells; first their products with the keys
    float* sums_;     // of weights: a vector for each query
    float highest_[kAttentionQueries + kPadding];      // product so far
    float before_[kAttentionQueries + kPadding] = {};  // what the outputs so far still count, of active ones
    // The queries of rows that see a cell of the block, and which.
    std::int64_t active_[kAttentionQueries + kPadding];
    std::uint32_t seen_[kAttentionQueries + kPadding];
    std::int64_t active_count_ = 0;
    std::int64_t cells_ = 0;  // of the block
    bool biased_ = false;     // the mask has more than zeros for cells that are seen
    bool values_finite_ = true;
};

}  // namespace
}  // namespace syncyte
