#include "scheduler/grammar_cache.h"

#include <algorithm>
#include <utility>

#include "engine/grammar.h"

namespace syncyte {

Result<std::shared_ptr<GrammarMachine>> GrammarCache::get(const Model& model, const std::string& text) {
    std::shared_ptr<const TokenTrie> trie;
    {
        const std::scoped_lock lock(mutex_);
        const auto found = std::ranges::find(entries_, text, &Entry::text);
        if (found != entries_.end()) {
            entries_.splice(entries_.begin(), entries_, found);
            return found->machine;
        }
        trie = trie_;
    }
    auto grammar = parse_grammar(text);
    if (!grammar) return std::unexpected(std::move(grammar.error()));
    if (!trie) trie = std::make_shared<const TokenTrie>(model);
    auto machine = GrammarMachine::make(std::move(*grammar), trie);
    if (!machine) return machine;
    const std::scoped_lock lock(mutex_);
    trie_ = std::move(trie);
    entries_.push_front({.text = text, .machine = *machine});
    if (entries_.size() > kMost) entries_.pop_back();
    return machine;
}

}  // namespace syncyte
