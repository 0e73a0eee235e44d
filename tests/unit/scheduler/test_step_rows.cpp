// Which rows a step computes where attention goes in tiles.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "scheduling_test.h"

namespace syncyte {
namespace {

constexpr std::size_t kTile = 16;
constexpr std::int32_t kRows = 64;

class StepRowsTest : public SchedulingTest {
  protected:
    void make_tiled(std::int32_t sequences, std::size_t tile = kTile) {
        make({.max_sequences = sequences, .context_length = 4096, .cells = 65'536, .rows_per_step = kRows});
        cache_->tiles = {.rows = tile, .gain = 2, .step_cells = 4000};
    }

    // A text of its own, letters from a seed.
    static std::string text(unsigned seed, std::size_t length) {
        std::mt19937 random(seed);
        std::string letters;
        while (letters.size() < length) letters += static_cast<char>('a' + random() % 26);
        return letters;
    }

    // So many requests that have begun to answer, each behind a text of its own.
    std::vector<Ref<Request>> answering(unsigned count, std::size_t length, int tokens) {
        std::vector<Ref<Request>> requests;
        requests.reserve(count);
        for (unsigned i = 0; i < count; ++i) requests.push_back(submit(text(i, length), tokens));
        step_until_answering(static_cast<std::ptrdiff_t>(count), length);
        cache_->steps.clear();
        return requests;
    }

    // Until so many sequences are longer than their prompts.
    void step_until_answering(std::ptrdiff_t count, std::size_t length) {
        const auto answers = [length](const auto& sequence) { return sequence.second.size() > length; };
        while (std::ranges::count_if(cache_->sequences, answers) < count) {
            ASSERT_LT(cache_->steps.size(), 10'000U) << "the prompts starve";
            scheduler_->step();
        }
    }

    static std::set<SequenceId> sequences_of(const std::vector<BatchRow>& rows) {
        std::set<SequenceId> ids;
        for (const BatchRow& row : rows) ids.insert(row.sequence);
        return ids;
    }
};

TEST_F(StepRowsTest, prompts_that_join_many_answers_make_no_tiles) {
    make_tiled(12);
    const auto answers = answering(8, 400, 300);
    std::vector<Ref<Request>> joining;
    joining.reserve(4);
    for (unsigned i = 0; i < 4; ++i) joining.push_back(submit(text(100 + i, 12), 5));
    run();
    for (const auto& rows : cache_->steps) EXPECT_LT(rows.size(), kTile);
    for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(done(joining[i]).text, expected(text(100 + i, 12), 5));
    for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(done(answers[i]).text, expected(text(i, 400), 300));
}

TEST_F(StepRowsTest, a_long_prompt_and_the_answers_take_turns) {
    make_tiled(9);
    const auto answers = answering(8, 400, 300);
    const Ref<Request> joining = submit(text(100, 900), 1);
    scheduler_->step();
    while (scheduler_->stats().running > 8) scheduler_->step();
    EXPECT_EQ(done(joining).text, expected(text(100, 900), 1));
    std::size_t alone = 0;
    for (std::size_t i = 0; i < cache_->steps.size(); ++i) {
        const auto& rows = cache_->steps[i];
        if (rows.size() < kTile) continue;
        EXPECT_EQ(sequences_of(rows).size(), 1U) << "step " << i;
        ++alone;
        if (i == 0) continue;
        EXPECT_GE(sequences_of(cache_->steps[i - 1]).size(), 8U) << "answers come in between";
    }
    EXPECT_GE(alone, 900 / kRows);
    run();
    for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(done(answers[i]).text, expected(text(i, 400), 300));
}

TEST_F(StepRowsTest, texts_with_a_common_beginning_fill_tiles) {
    make_tiled(12);
    const std::string prefix = text(1, 2000);
    const Ref<Request> first = submit(prefix, 1);
    run();
    cache_->steps.clear();
    std::vector<Ref<Request>> requests;
    requests.reserve(8);
    for (unsigned i = 0; i < 8; ++i) requests.push_back(submit(prefix + text(100 + i, 12), 3));
    run();
    ASSERT_FALSE(cache_->steps.empty());
    EXPECT_EQ(cache_->steps.front().size(), static_cast<std::size_t>(kRows));
    for (unsigned i = 0; i < 8; ++i) {
        EXPECT_EQ(done(requests[i]).text, expected(prefix + text(100 + i, 12), 3));
    }
}

TEST_F(StepRowsTest, without_tiles_steps_are_full) {
    make_tiled(12, 0);
    const auto answers = answering(8, 400, 300);
    const Ref<Request> joining = submit(text(100, 900), 1);
    scheduler_->step();
    while (scheduler_->stats().running > 8) scheduler_->step();
    EXPECT_EQ(cache_->steps.front().size(), static_cast<std::size_t>(kRows));
    EXPECT_EQ(sequences_of(cache_->steps.front()).size(), 9U);
    run();
}

// More answers than a step without tiles has rows.
TEST_F(StepRowsTest, many_answers_take_turns_and_prompts_get_on) {
    constexpr unsigned kAnswers = 24;
    make_tiled(kAnswers + 1);
    const auto answers = answering(kAnswers, 150, 250);
    const Ref<Request> joining = submit(text(1000, 200), 1);
    std::vector<std::size_t> last(kAnswers + 1, 0);
    scheduler_->step();
    while (std::cmp_greater(scheduler_->stats().running, kAnswers)) {
        ASSERT_LT(cache_->steps.size(), 100U) << "the prompt starves";
        scheduler_->step();
        const std::size_t now = cache_->steps.size();
        if (cache_->steps.back().size() >= kTile) continue;  // the prompt by itself
        for (const SequenceId id : sequences_of(cache_->steps.back())) {
            const auto at = static_cast<std::size_t>(id);
            ASSERT_LT(at, last.size());
            // Seven rows of answers at least, every second step at least.
            EXPECT_LE(now - last[at], 2 * (kAnswers / 7 + 2)) << "sequence " << id << " waits";
            last[at] = now;
        }
    }
    EXPECT_EQ(done(joining).text, expected(text(1000, 200), 1));
    run();
    for (unsigned i = 0; i < kAnswers; ++i) EXPECT_EQ(done(answers[i]).text, expected(text(i, 150), 250));
    expect_empty();
}

TEST_F(StepRowsTest, guesses_of_several_make_no_tiles) {
    make_tiled(4);
    std::vector<Ref<Request>> requests;
    for (char name = 'a'; name < 'e'; ++name) {
        RequestOptions options = ask(text(static_cast<unsigned>(name), 800) + std::string(300, name), 80);
        options.draft_tokens = 8;
        requests.push_back(submit(std::move(options)));
    }
    step_until_answering(4, 1100);
    cache_->steps.clear();
    run();
    bool guessing = false;
    for (const auto& rows : cache_->steps) {
        EXPECT_LT(rows.size(), kTile);
        guessing = guessing || rows.size() > 4;
    }
    EXPECT_TRUE(guessing);
    for (char name = 'a'; name < 'e'; ++name) {
        const std::string prompt = text(static_cast<unsigned>(name), 800) + std::string(300, name);
        EXPECT_EQ(done(requests[static_cast<std::size_t>(name - 'a')]).text, expected(prompt, 80));
    }
}

// What attention reads is counted as the cache has it, however texts share their beginnings.
TEST(CellsSeen, counts_shared_cells_once) {
    auto cache = std::make_shared<FakeCache>();
    cache->cells = 100'000;
    FakeContext context(cache, hashed_letter, 512);
    PrefixTree tree(context, 64, cache->cells, PrefixTree::Sharing::kYes);
    std::mt19937 random(7);
    std::vector<PrefixTree::Node*> nodes;
    std::vector<std::vector<Token>> texts{{}};
    for (int i = 0; i < 60; ++i) {
        // Goes on from a part of an earlier one.
        const auto& from = texts[random() % texts.size()];
        std::vector<Token> tokens(
            from.begin(),
            from.begin() + static_cast<std::ptrdiff_t>(from.empty() ? 0 : random() % from.size()));
        const std::size_t more = 1 + random() % 20;
        for (std::size_t k = 0; k < more; ++k) tokens.push_back(static_cast<Token>(random() % 4));
        PrefixTree::Node* node = tree.begin({.tokens = tokens, .salt = {}});
        ASSERT_NE(node, nullptr);
        std::vector<BatchRow> rows;
        while (node->tokens.size() < tokens.size()) {
            const std::size_t place = node->tokens.size();
            rows.push_back({tokens[place], static_cast<Position>(place), node->id, false});
            node->tokens.push_back(tokens[place]);
        }
        ASSERT_TRUE(context.step(rows));
        nodes.push_back(node);
        texts.push_back(std::move(tokens));
        std::vector<PrefixTree::Node*> some;
        std::set<std::uint64_t> places;
        for (PrefixTree::Node* each : nodes) {
            if (random() % 3 != 0) continue;
            some.push_back(each);
            places.insert(cache->places[each->id].begin(), cache->places[each->id].end());
        }
        EXPECT_EQ(tree.cells_seen(some), places.size());
    }
    for (PrefixTree::Node* node : nodes) tree.end(node);
}

}  // namespace
}  // namespace syncyte
