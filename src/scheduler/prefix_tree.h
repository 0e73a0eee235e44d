// Which tokens the KV cache holds, in which sequence, and who shares them with whom.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/model.h"

namespace syncyte {

// Sequences that began with a part of another are its children: those cells are shared and counted once, with
// the ancestor that computed them. What ended stays, as long as there is room, for others to begin with;
// least recently used leaves leave first. The engine thread only.
class PrefixTree {
  public:
    // A sequence in the cache. Owned by the tree; a running one is its request's to extend.
    struct Node {
        SequenceId id = 0;
        Node* parent = nullptr;         // null: nothing shared
        std::size_t shared = 0;         // first tokens, whose cells belong to ancestors
        std::vector<Token> tokens;      // all that are in the cache, the shared ones included
        std::span<const Token> prompt;  // of a running one: what is going to be computed
        std::int32_t cells = 0;         // its own: reserved while it runs, then as many as it holds
        std::uint64_t last_used = 0;
        int children = 0;
        bool running = false;
        bool proven = false;  // somebody has begun with it
    };

    // `sequences` ids and `cells` cells of `context`, which must outlive the tree. With Sharing::kNo every
    // sequence begins empty and nothing stays.
    enum class Sharing : bool { kNo, kYes };
    PrefixTree(Context& context, std::int32_t sequences, std::int32_t cells, Sharing sharing);
    PrefixTree(const PrefixTree&) = delete;
    PrefixTree& operator=(const PrefixTree&) = delete;

    // Whether a running sequence is about to compute more of what `prompt` begins with than is there now:
    // then waiting a few steps saves that work.
    [[nodiscard]] bool worth_waiting(std::span<const Token> prompt) const;

    // A sequence that begins with as much of `prompt` as is there, its last token left out, and has room for
    // `length` tokens in all. `prompt` must stay valid while it runs. nullptr: no room until others end.
    Node* begin(std::span<const Token> prompt, std::size_t length);

    // The sequence runs no more. What it holds may stay.
    void end(Node* node);
    // Forgets everything that does not run.
    void clear();

    [[nodiscard]] std::int32_t running_cells() const { return running_cells_; }
    [[nodiscard]] std::int32_t kept_cells() const { return kept_cells_; }

  private:
    struct Match {
        Node* node = nullptr;
        std::size_t length = 0;
    };

    [[nodiscard]] Match longest(std::span<const Token> prompt) const;
    bool make_room(std::int32_t cells, const Match& match);
    bool evict_one(const Node* spared);
    void trim(Node* node, std::size_t length);
    void remove(Node* node);
    void bound_unproven();

    Context& context_;
    const std::int32_t cells_;
    const Sharing sharing_;
    std::vector<SequenceId> free_ids_;
    std::vector<std::unique_ptr<Node>> nodes_;
    std::int32_t running_cells_ = 0;
    std::int32_t kept_cells_ = 0;
    std::uint64_t clock_ = 0;
};

}  // namespace syncyte
