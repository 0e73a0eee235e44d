// Which rows a step computes.
#include <algorithm>
#include <iterator>

#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"

namespace syncyte {

namespace {

constexpr std::size_t kLeastOfPrompts = 8;  // rows of a step: they must get on beside many answers

}  // namespace

// Tokens of running answers first; what is left of the step goes to prompts, the most urgent first. Steps are
// kept short for those who stream, and not longer than until a deadline; who waits for a whole answer has it
// sooner when prompts come in one piece.
void Scheduler::build_rows() {
    rows_.clear();
    owners_.clear();
    shares_.clear();
    decoding_ = 0;
    bool streamed = false;
    for (const auto& sequence : running_) {
        sequence->row = Sequence::kNoRow;
        if (!sequence->decoding() || !serves(*sequence)) continue;
        shares_.push_back({sequence.get(), 1 + sequence->drafted});
        decoding_ += shares_.back().rows;
        streamed = streamed || sequence->request->streamed();
    }
    const std::size_t answers = shares_.size();
    std::size_t left = pace_.prompt_rows(streamed ? decoding_ : 0,
                                         static_cast<std::size_t>(options_.rows_per_step) - decoding_);
    if (const Deadline nearest = nearest_deadline(); !nearest.is_never()) {
        left = std::min(left, pace_.rows_within(seconds_between(now_, nearest.time()), decoding_));
    }
    for (const auto& sequence : running_) {
        if (sequence->decoding() || !serves(*sequence)) continue;
        const std::size_t count = std::min(sequence->missing(), left);
        if (count == 0) continue;
        shares_.push_back({sequence.get(), count});
        left -= count;
    }
    if (!tiles_pay()) avoid_tiles(answers);
    decoding_ = 0;
    for (const Share& share : shares_) {
        const bool answer = share.sequence->decoding();
        for (std::size_t i = 0; i < share.rows - share.sequence->drafted; ++i) add_row(*share.sequence);
        add_drafted(*share.sequence);
        share.sequence->last_step = steps_;
        if (answer) decoding_ = rows_.size();
    }
}

Deadline Scheduler::nearest_deadline() const {
    Deadline nearest = Deadline::never();
    for (const auto& sequence : running_) {
        if (serves(*sequence)) nearest = std::min(nearest, sequence->options().deadline);
    }
    return nearest;
}

// Whether attention over this step's rows in tiles costs no more than over each row by itself, in steps that
// are too small for tiles. A tile looks at all cells that any of its rows sees: much for rows of one text or
// of texts that share what they began with, a waste for rows of many.
bool Scheduler::tiles_pay() {
    const AttentionTiles tiles = context_->attention_tiles();
    const std::size_t tile = tiles.rows;
    std::size_t rows = 0;
    std::size_t alone = 0;  // cells, for each row
    for (const Share& share : shares_) {
        rows += share.rows;
        alone += share.rows * (share.sequence->computed() + share.rows / 2);
    }
    if (tile == 0 || rows < tile) return true;
    std::size_t tiled = 0;
    std::size_t filled = 0;  // rows of the tile
    seen_.clear();
    for (const Share& share : shares_) {
        for (std::size_t done = 0; done < share.rows;) {
            const std::size_t count = std::min(share.rows - done, tile - filled);
            done += count;
            filled += count;
            seen_.push_back(share.sequence->node);
            if (filled < tile) continue;
            tiled += filled * tree_.cells_seen(seen_);
            filled = 0;
            seen_.clear();
        }
    }
    tiled += filled * tree_.cells_seen(seen_);
    return tiled <= tiles.gain * alone + tiles.step_cells;
}

// Less in this step than would make tiles: or, every second time, one long prompt by itself, which is what
// tiles are good for. Answers that do not fit have waited for the shortest time.
void Scheduler::avoid_tiles(std::size_t answers) {
    const std::size_t tile = context_->attention_tiles().rows;
    const auto prompts = shares_.begin() + static_cast<std::ptrdiff_t>(answers);
    const auto is_long = [tile](const Share& share) { return share.rows >= tile; };
    const auto lead = std::find_if(prompts, shares_.end(), is_long);
    alone_ = lead != shares_.end() && !alone_;
    if (alone_) {
        shares_ = {*lead};
        return;
    }
    const std::size_t kept = prompts == shares_.end() ? 0 : std::min(kLeastOfPrompts, tile / 2);
    if (answers + kept >= tile) {
        std::ranges::stable_sort(shares_.begin(), prompts, {},
                                 [](const Share& share) { return share.sequence->last_step; });
    }
    std::size_t left = tile - 1;
    std::size_t still = answers;
    std::erase_if(shares_, [&](Share& share) {
        const bool answer = still > 0;
        still -= answer ? 1 : 0;
        const std::size_t room = answer ? left - std::min(left, kept) : left;
        share.rows = std::min(share.rows, room);
        left -= share.rows;
        return share.rows == 0;
    });
}

bool Scheduler::serves(const Sequence& sequence) const { return sequence.options().adapter == serving_; }

// Of the next token of the sequence that has no row yet.
void Scheduler::add_row(Sequence& sequence) {
    const bool follows = !owners_.empty() && owners_.back() == &sequence;
    const std::size_t position =
        follows ? static_cast<std::size_t>(rows_.back().position) + 1 : sequence.computed();
    const bool last = position + 1 == sequence.tokens.size();
    if (last) sequence.row = rows_.size();
    rows_.push_back({sequence.tokens[position], static_cast<Position>(position), sequence.node->id, last});
    owners_.push_back(&sequence);
}

// After the row of its last token.
void Scheduler::add_drafted(Sequence& sequence) {
    for (std::size_t i = 0; i < sequence.drafted; ++i) {
        const Position position = rows_.back().position + 1;
        rows_.push_back({sequence.guess[i], position, sequence.node->id, true});
        owners_.push_back(&sequence);
    }
}

}  // namespace syncyte
