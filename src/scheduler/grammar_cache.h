// The grammars that requests of one model used lately, compiled.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>

#include "base/error.h"
#include "engine/grammar_machine.h"
#include "engine/model.h"
#include "engine/token_trie.h"

namespace syncyte {

// Agents ask with the same few grammars again and again: what one request has found out of its grammar serves
// the next. Any thread; what it gives out is the engine thread's.
class GrammarCache {
  public:
    // Errors as parse_grammar() and GrammarMachine::make(). The first call for a model looks at its whole
    // vocabulary: some 10 ms.
    Result<std::shared_ptr<GrammarMachine>> get(const Model& model, const std::string& text);

  private:
    static constexpr std::size_t kMost = 16;

    struct Entry {
        std::string text;
        std::shared_ptr<GrammarMachine> machine;
    };

    std::mutex mutex_;
    std::shared_ptr<const TokenTrie> trie_;
    std::list<Entry> entries_;  // used last first
};

}  // namespace syncyte
