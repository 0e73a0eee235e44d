// Which tokens the KV cache holds, in which sequence, and who shares them with whom.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model.h"
#include "scheduler/parked_texts.h"

namespace syncyte {

// Sequences that began with a part of another are its children: those cells are shared and counted once, with
// the ancestor that computed them. What ended stays, as long as there is room, for others to begin with.
//
// A sequence takes cells as it grows. When there are none left, least recently used leaves leave first, then
// parts that nobody shares, then the ends of sequences that are paused. Running and pinned ones never leave.
// Of long leaves a copy stays outside the cache, and comes back when somebody begins with them.
// The engine thread only.
class PrefixTree {
  public:
    // A sequence in the cache. Owned by the tree; a running one is its request's to extend.
    struct Node {
        SequenceId id = 0;
        Node* parent = nullptr;      // null: nothing shared
        std::size_t shared = 0;      // first tokens, whose cells belong to ancestors
        std::vector<Token> tokens;   // all that are in the cache, the shared ones included
        std::vector<Token> planned;  // of a running one, until computed: what it began with
        std::string salt;            // only the same one shares
        std::int32_t cells = 0;      // its own: while it runs also those it is about to fill
        std::uint64_t last_used = 0;
        std::uint64_t hold = 0;  // not 0: a paused request goes on here
        int children = 0;
        std::size_t gathered = 0;  // first tokens, whose cells need not be moved together any more
        std::size_t needed = 0;    // first tokens that it or its children share; as of note_needed()
        std::size_t seen = 0;      // first tokens that somebody looks at; of cells_seen()
        bool running = false;
        bool pinned = false;
        bool proven = false;           // somebody has begun with it
        std::uint64_t idle_since = 0;  // step that it ended in
        double idle_from = 0;     // rows that had been computed when it ended, as note_rows() counts them
        std::int32_t passed = 0;  // cells that others left while it stayed where it was
    };

    // What a sequence begins with, and what it needs.
    struct Wanted {
        std::span<const Token> tokens;  // to be in the cache soon, at least one
        std::string_view salt;
        std::int32_t headroom = 0;  // further cells that must be free, though not its own yet
        std::uint64_t hold = 0;     // of a request that was paused
    };

    struct Cells {
        std::int32_t used = 0;    // hold a token
        std::int32_t shared = 0;  // of those: used by more than one sequence
        std::int32_t pinned = 0;  // of those: of pinned sequences
        std::int32_t free = 0;
    };

    // `sequences` ids and `cells` cells of `context`, which must outlive the tree. With Sharing::kNo every
    // sequence begins empty and nothing but what is paused stays. With kCopies what another holds is copied:
    // no cell is shared, and what ended stays where it is until its id is needed.
    enum class Sharing : std::uint8_t { kNo, kCopies, kYes };
    PrefixTree(Context& context, std::int32_t sequences, std::int32_t cells, Sharing sharing);
    PrefixTree(const PrefixTree&) = delete;
    PrefixTree& operator=(const PrefixTree&) = delete;

    // A running sequence that is about to compute more of what `wanted` begins with than is there now: then
    // waiting a few steps saves that work. nullptr: there is none.
    [[nodiscard]] const Node* worth_waiting(const Wanted& wanted) const;

    // A sequence that holds as much of what is wanted as is there, its last token left out, and has room for
    // the rest of it: one that ended there or nearly there goes on, of another the beginning is shared.
    // nullptr: no room until others end or pause.
    Node* begin(const Wanted& wanted);
    // Room for one more token of a running sequence. False: not until others end or pause.
    bool extend(Node* node);

    // The first place in the sequence from which on no other sequence uses its cells.
    [[nodiscard]] std::size_t unshared(const Node* node) const;

    // Cells that the sequences use, all together; what several share counts once.
    [[nodiscard]] std::size_t cells_seen(std::span<Node* const> nodes) const;

    // Cells of what is pinned, and of `with` as if it were.
    [[nodiscard]] std::int32_t pinned_cells(Node* with = nullptr) const;

    // What the others of its salt hold, for as long as the tree is not changed.
    [[nodiscard]] std::vector<std::span<const Token>> texts(const Node* besides) const;

    // The sequence runs no more. What it holds may stay.
    void end(Node* node);
    // As end(), but what it holds stays for the request that will begin again with the hold returned, and
    // goes only when nothing else is left to go.
    std::uint64_t pause(Node* node);
    // The paused request will not come back. A hold whose cells have gone, or 0, is nothing to release.
    void release(std::uint64_t hold);

    // What the sequence holds stays until unpin(); end() it after that or before.
    void pin(Node* node);
    void unpin(Node* node);

    // For each step: takes what does not run out of the cache, saved, since attention goes past all cells in
    // use. What others began with stays. While several run, a text that ended some steps ago leaves; while
    // nobody runs, one that nobody has begun with, or that has been in the way of many rows. Of much that is
    // in the way of one that runs alone a text is saved each step; then all of it leaves at once, and the
    // cells of the one that runs move to the front: where it shares none, their order is what it would be in
    // an empty cache, and so its logits are, to the last bit. Whether anything left, was saved or moved.
    bool tidy(std::size_t running);
    // What a step has computed: so many rows of answers and of prompts.
    void note_rows(std::size_t decoding, std::size_t prompt);

    // Gives those who run ids that follow each other, where the context wants that. What does not run leaves
    // such an id, saved.
    void close_gaps();

    // Lets the one go that would go first, with any of its cells. False: nothing may go.
    bool evict();
    // The context is not to be used any more but for erasing: nothing is saved from now on.
    void close();
    // Forgets everything that does not run.
    void clear();

    [[nodiscard]] std::int32_t running_cells() const { return running_cells_; }
    [[nodiscard]] std::int32_t kept_cells() const { return kept_cells_; }
    // Neither running nor kept.
    [[nodiscard]] std::int32_t free_cells() const { return cells_ - running_cells_ - kept_cells_; }
    // Times that something left to make room.
    [[nodiscard]] std::uint64_t evictions() const { return evictions_; }
    [[nodiscard]] Cells cells() const;
    // Of texts that left and can be brought back.
    [[nodiscard]] std::size_t parked_tokens() const { return parked_.tokens(); }

  private:
    struct Match {
        Node* node = nullptr;
        std::size_t length = 0;
    };

    // The end of a text, which can leave the cache.
    struct Leaving {
        Node* last = nullptr;  // the sequence that has it
        std::size_t from = 0;  // its first token that leaves
        [[nodiscard]] std::size_t cells() const { return last->tokens.size() - from; }
    };

    // The ids of those who run.
    struct IdRange {
        SequenceId first = 0;
        SequenceId last = 0;
        std::int32_t count = 0;
    };

    [[nodiscard]] IdRange running_ids() const;
    [[nodiscard]] Match longest(const Wanted& wanted) const;
    [[nodiscard]] Node* held(std::uint64_t hold) const;
    void note_needed() const;
    Node* resume(Node* node, const Wanted& wanted);
    [[nodiscard]] static bool ends_at(const Match& match);
    [[nodiscard]] static Node* owner(Node* node, std::size_t length);
    void become_child(Node& node, const Match& match);
    Node* keep(ParkedTexts::Text& text, Node* base, std::size_t length);
    Node* copy(const Wanted& wanted, const Match& match);
    [[nodiscard]] SequenceId take_id();
    enum class NewId : bool { kNo, kYes };
    bool make_room(std::int32_t cells, std::int32_t headroom, NewId id, const Match& spared);
    enum class Saved : std::uint8_t { kNotWorthIt, kNo, kBefore, kNow };
    Saved park(const Node& node, std::size_t from);
    [[nodiscard]] static bool unproven(const Node& node);
    [[nodiscard]] Leaving leaving(Node& node, std::uint64_t linger) const;
    [[nodiscard]] bool takes(const Leaving& text) const;
    [[nodiscard]] bool in_the_way(const Leaving& text) const;
    bool leave(const Leaving& text);
    bool make_way();
    bool bring_back(const Wanted& wanted, const Match& match);
    [[nodiscard]] Node* oldest_leaf(const Node* spared) const;
    bool evict_leaf(const Node* spared);
    bool trim_unneeded(const Match& spared);
    bool shrink_held(const Match& spared, std::int32_t cells);
    void trim(Node* node, std::size_t length);
    void remove(Node* node);
    void stop(Node* node);
    void bound_unproven();

    Context& context_;
    const std::int32_t cells_;
    const Sharing sharing_;
    ParkedTexts parked_;
    bool closed_ = false;
    std::vector<SequenceId> free_ids_;
    std::vector<std::unique_ptr<Node>> nodes_;
    std::int32_t running_cells_ = 0;
    std::int32_t kept_cells_ = 0;
    std::uint64_t clock_ = 0;
    std::uint64_t steps_ = 0;
    double rows_ = 0;  // of answers, and prompts' for what they are worth
    std::uint64_t last_hold_ = 0;
    std::uint64_t evictions_ = 0;
};

}  // namespace syncyte
