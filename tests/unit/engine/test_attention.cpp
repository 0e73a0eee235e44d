// Each kernel that this processor can run, beside the definition of attention in double precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "engine/attention.h"

namespace syncyte {
namespace {

constexpr std::uint16_t kMinusInfinity = 0xfc00;
constexpr std::uint16_t kInfinity = 0x7c00;

// Zero for what is smaller than normal numbers are.
std::uint16_t half(double value) {
    int exponent = 0;
    const double fraction = std::frexp(std::abs(value), &exponent);  // [0.5, 1)
    const auto digits = static_cast<int>(std::lround(fraction * 2048)) - 1024;
    const int biased = exponent + 14;
    if (biased <= 0) return 0;
    EXPECT_LT(biased, 31) << value;
    return static_cast<std::uint16_t>((value < 0 ? 0x8000 : 0) | ((biased << 10) + digits));
}

double from_half(std::uint16_t bits) {
    const int biased = (bits >> 10) & 31;
    const int digits = bits & 1023;
    const double sign = (bits & 0x8000) != 0 ? -1 : 1;
    if (biased == 31) {
        return digits == 0 ? sign * std::numeric_limits<double>::infinity()
                           : std::numeric_limits<double>::quiet_NaN();
    }
    if (biased == 0) return sign * std::ldexp(digits, -24);
    return sign * std::ldexp(1024 + digits, biased - 25);
}

struct Shape {
    std::int64_t size;
    std::int64_t heads;
    std::int64_t key_heads;
    std::int64_t rows;
    std::int64_t cells;
    std::int64_t streams;
};

std::size_t count(std::int64_t number) { return static_cast<std::size_t>(number); }

// Keys and values of all heads of a cell lie beside each other, as in a KV cache; the rest as ggml has it.
class Case {
  public:
    explicit Case(const Shape& shape, unsigned seed = 1) : shape_(shape), random_(seed) {
        std::normal_distribution<double> normal;
        queries_.resize(count(shape.streams * shape.rows * shape.heads * shape.size));
        std::ranges::generate(queries_, [&] { return static_cast<float>(normal(random_)); });
        for (auto* numbers : {&keys_, &values_}) {
            numbers->resize(count(shape.streams * shape.cells * shape.key_heads * shape.size));
            std::ranges::generate(*numbers, [&] { return half(normal(random_)); });
        }
        mask_.resize(count(shape.streams * shape.rows * shape.cells));
        output_.resize(queries_.size());
    }

    // Each row sees a cell with that chance.
    void see(double chance) {
        std::uniform_real_distribution<double> uniform;
        std::ranges::generate(mask_, [&] { return uniform(random_) < chance ? 0 : kMinusInfinity; });
    }

    std::uint16_t& mask(std::int64_t row, std::int64_t cell) {
        return mask_[count(row * shape_.cells + cell)];
    }
    std::uint16_t& value(std::int64_t cell, std::int64_t number) {
        return values_[count(cell * shape_.key_heads * shape_.size + number)];
    }
    std::uint16_t& key(std::int64_t cell, std::int64_t number) {
        return keys_[count(cell * shape_.key_heads * shape_.size + number)];
    }
    [[nodiscard]] float output(std::int64_t row, std::int64_t number) const {
        return output_[count(row * shape_.heads * shape_.size + number)];
    }

    [[nodiscard]] Attention attention() {
        const Shape& s = shape_;
        const std::size_t number = count(s.size) * sizeof(float);
        const std::size_t cell = count(s.key_heads * s.size) * sizeof(std::uint16_t);
        const AttentionStrides kept{
            .item = cell, .head = count(s.size) * sizeof(std::uint16_t), .stream = cell * count(s.cells)};
        const std::size_t line = count(s.cells) * sizeof(std::uint16_t);
        return {
            .size = s.size,
            .heads = s.heads,
            .key_heads = s.key_heads,
            .rows = s.rows,
            .cells = s.cells,
            .streams = s.streams,
            .scale = 0.25F,
            .queries = queries_.data(),
            .keys = keys_.data(),
            .values = values_.data(),
            .mask = mask_.data(),
            .output = output_.data(),
            .query_strides = {.item = number,
                              .head = number * count(s.rows),
                              .stream = number * count(s.rows * s.heads)},
            .key_strides = kept,
            .value_strides = kept,
            .mask_strides = {.item = line, .head = 0, .stream = line * count(s.rows)},
            .output_strides = {
                .item = number * count(s.heads), .head = number, .stream = number * count(s.rows * s.heads)}};
    }

    // Of one head of one row, cell by cell.
    [[nodiscard]] std::vector<double> defined(std::int64_t stream, std::int64_t row,
                                              std::int64_t head) const {
        const Shape& s = shape_;
        const std::int64_t key_head = head / (s.heads / s.key_heads);
        const float* query = &queries_[count(((stream * s.heads + head) * s.rows + row) * s.size)];
        std::vector<double> sums(count(s.size));
        double weights = 0;
        for (std::int64_t cell = 0; cell < s.cells; ++cell) {
            const double added = from_half(mask_[count((stream * s.rows + row) * s.cells + cell)]);
            if (std::isinf(added)) continue;
            const std::size_t kept = count(((stream * s.cells + cell) * s.key_heads + key_head) * s.size);
            double product = 0;
            for (std::size_t i = 0; i < count(s.size); ++i)
                product += double{query[i]} * from_half(keys_[kept + i]);
            const double weight = std::exp(product * 0.25 + added);
            weights += weight;
            for (std::size_t i = 0; i < count(s.size); ++i) sums[i] += weight * from_half(values_[kept + i]);
        }
        for (double& sum : sums) sum = weights == 0 ? 0 : sum / weights;
        return sums;
    }

    void expect_defined() const {
        const Shape& s = shape_;
        for (std::int64_t stream = 0; stream < s.streams; ++stream) {
            for (std::int64_t row = 0; row < s.rows; ++row) {
                for (std::int64_t head = 0; head < s.heads; ++head) {
                    const std::vector<double> expected = defined(stream, row, head);
                    const std::size_t first = count(((stream * s.rows + row) * s.heads + head) * s.size);
                    for (std::size_t i = 0; i < expected.size(); ++i) {
                        ASSERT_NEAR(output_[first + i], expected[i], 2e-5)
                            << "stream " << stream << " row " << row << " head " << head << " number " << i;
                    }
                }
            }
        }
    }

  private:
    const Shape shape_;
    std::mt19937 random_;
    std::vector<float> queries_;
    std::vector<std::uint16_t> keys_;
    std::vector<std::uint16_t> values_;
    std::vector<std::uint16_t> mask_;
    std::vector<float> output_;
};

void compute(const AttentionKernel& kernel, const Attention& attention) {
    AttentionTeam().compute(kernel, attention, 1);
}

class AttentionTest : public testing::TestWithParam<AttentionKernel> {};

INSTANTIATE_TEST_SUITE_P(Kernels, AttentionTest, testing::ValuesIn(attention_kernels()),
                         [](const auto& kernel) {
                             std::string name(kernel.param.name);
                             std::erase(name, '-');
                             return name;
                         });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AttentionTest);

TEST_P(AttentionTest, is_what_it_is_defined_as) {
    const Shape shapes[] = {
        {.size = 64, .heads = 16, .key_heads = 4, .rows = 1, .cells = 256, .streams = 1},
        {.size = 64, .heads = 16, .key_heads = 4, .rows = 33, .cells = 512, .streams = 1},
        {.size = 128, .heads = 8, .key_heads = 8, .rows = 70, .cells = 96, .streams = 1},
        {.size = 80, .heads = 6, .key_heads = 2, .rows = 5, .cells = 45, .streams = 3},
        {.size = 16, .heads = 3, .key_heads = 1, .rows = 3, .cells = 1, .streams = 1},
        {.size = 256, .heads = 4, .key_heads = 1, .rows = 2, .cells = 64, .streams = 2},
        {.size = 96, .heads = 71, .key_heads = 1, .rows = 2, .cells = 33, .streams = 1},
        {.size = 32, .heads = 128, .key_heads = 1, .rows = 3, .cells = 65, .streams = 1},
    };
    for (const Shape& shape : shapes) {
        for (const double chance : {1.0, 0.5, 0.02}) {
            Case attention(shape);
            attention.see(chance);
            compute(GetParam(), attention.attention());
            attention.expect_defined();
            if (HasFatalFailure()) FAIL() << "size " << shape.size << " chance " << chance;
        }
    }
}

// As texts do: each row sees a beginning that all have, and cells of its own.
TEST_P(AttentionTest, shares_beginnings) {
    const Shape shape{.size = 64, .heads = 8, .key_heads = 2, .rows = 24, .cells = 768, .streams = 1};
    Case attention(shape);
    for (std::int64_t row = 0; row < shape.rows; ++row) {
        for (std::int64_t cell = 0; cell < shape.cells; ++cell) {
            const bool seen = cell < 300 || (cell - 300) / 19 == row;
            attention.mask(row, cell) = seen ? 0 : kMinusInfinity;
        }
    }
    compute(GetParam(), attention.attention());
    attention.expect_defined();
}

TEST_P(AttentionTest, adds_what_the_mask_has) {
    Case attention({.size = 32, .heads = 2, .key_heads = 1, .rows = 4, .cells = 70, .streams = 1});
    attention.see(0.7);
    for (std::int64_t cell = 0; cell < 70; cell += 3) attention.mask(2, cell) = half(-1.5);
    compute(GetParam(), attention.attention());
    attention.expect_defined();
}

TEST_P(AttentionTest, weighs_products_of_any_size) {
    const Shape shape{.size = 16, .heads = 1, .key_heads = 1, .rows = 2, .cells = 200, .streams = 1};
    Case attention(shape);
    attention.see(1);
    // They rise from block to block, far beyond what e to their power would fit into.
    for (std::int64_t cell = 0; cell < shape.cells; ++cell) {
        for (std::int64_t i = 0; i < shape.size; ++i) attention.key(cell, i) = half(1.0 + double(cell) * 2);
    }
    compute(GetParam(), attention.attention());
    attention.expect_defined();
}

TEST_P(AttentionTest, gives_zeros_to_who_sees_nothing) {
    Case attention({.size = 32, .heads = 2, .key_heads = 1, .rows = 3, .cells = 64, .streams = 1});
    attention.see(1);
    for (std::int64_t cell = 0; cell < 64; ++cell) attention.mask(1, cell) = kMinusInfinity;
    compute(GetParam(), attention.attention());
    attention.expect_defined();
    for (std::int64_t i = 0; i < 64; ++i) EXPECT_EQ(attention.output(1, i), 0);
}

// What one text's cells hold does not reach those who do not see them.
TEST_P(AttentionTest, keeps_infinities_to_those_who_see_them) {
    for (const std::uint16_t bad : {kInfinity, std::uint16_t{0x7e00}}) {
        Case attention({.size = 32, .heads = 2, .key_heads = 1, .rows = 3, .cells = 64, .streams = 1});
        attention.see(1);
        attention.value(40, 7) = bad;
        attention.key(41, 3) = 0x7e00;
        for (const std::int64_t row : {0, 2}) {
            for (const std::int64_t cell : {40, 41}) attention.mask(row, cell) = kMinusInfinity;
        }
        compute(GetParam(), attention.attention());
        for (const std::int64_t row : {0, 2}) {
            for (std::int64_t head = 0; head < 2; ++head) {
                const std::vector<double> expected = attention.defined(0, row, head);
                for (std::int64_t i = 0; i < 32; ++i) {
                    EXPECT_NEAR(attention.output(row, head * 32 + i), expected[count(i)], 2e-5);
                }
            }
        }
        EXPECT_TRUE(std::isnan(attention.output(1, 0)));  // it saw a key that is no number
    }
}

// Units fall to whichever thread comes first; each output is written once, and alike.
TEST_P(AttentionTest, is_the_same_from_a_team) {
    const Shape shape{.size = 64, .heads = 8, .key_heads = 2, .rows = 40, .cells = 300, .streams = 1};
    Case attention(shape);
    attention.see(0.5);
    AttentionTeam team;
    constexpr int kThreads = 3;
    std::barrier meet(kThreads);
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
        threads.emplace_back([&] {
            for (int round = 0; round < 20; ++round) {
                team.compute(GetParam(), attention.attention(), kThreads);
                meet.arrive_and_wait();
            }
        });
    }
    threads.clear();
    attention.expect_defined();
}

TEST(AttentionPlan, covers_every_head_of_every_row_once) {
    for (const std::int64_t heads : {1, 4, 6, 32, 71, 128}) {
        for (const std::int64_t key_heads : {1, 2}) {
            for (const std::int64_t rows : {1, 2, 17, 64, 500}) {
                for (const int threads : {1, 2, 7, 64}) {
                    const Attention attention{.size = 64,
                                              .heads = heads * key_heads,
                                              .key_heads = key_heads,
                                              .rows = rows,
                                              .cells = 256,
                                              .streams = 2};
                    const AttentionPlan plan(attention, threads);
                    std::vector<int> found(count(2 * heads * key_heads * rows));
                    for (std::int64_t i = 0; i < plan.units(); ++i) {
                        const AttentionUnit unit = plan.unit(i);
                        ASSERT_GT(unit.rows, 0);
                        ASSERT_LE(unit.rows * unit.heads, 64);
                        for (std::int64_t row = unit.first_row; row < unit.first_row + unit.rows; ++row) {
                            for (std::int64_t head = 0; head < unit.heads; ++head) {
                                ASSERT_EQ((unit.first_head + head) / heads, unit.key_head);
                                ++found[count(
                                    (unit.stream * attention.heads + unit.first_head + head) * rows + row)];
                            }
                        }
                    }
                    ASSERT_TRUE(std::ranges::all_of(found, [](int times) { return times == 1; }));
                }
            }
        }
    }
}

}  // namespace
}  // namespace syncyte
