#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "fake_model.h"
#include "scheduler/request.h"

namespace syncyte {
namespace {

Ref<Request> make() { return make_ref<Request>(RequestOptions{}, nullptr); }

TEST(Request, gives_each_piece_once_and_then_the_outcome) {
    const auto request = make();
    EXPECT_EQ(request->next(Deadline::now()).error().code, ErrorCode::kTimedOut);
    request->append(1, "a");
    request->append(2, "b");
    const auto first = request->next(Deadline::now());
    ASSERT_TRUE(first);
    EXPECT_EQ(first->text, "ab");
    EXPECT_EQ(first->tokens, (std::vector<Token>{1, 2}));
    EXPECT_FALSE(first->outcome);
    request->complete(FinishReason::kStop, "c");
    const auto last = request->next(Deadline::never());
    ASSERT_TRUE(last);
    EXPECT_EQ(last->text, "c");
    EXPECT_TRUE(last->outcome);
    EXPECT_TRUE(request->next(Deadline::now())->outcome) << "it stays finished";
}

TEST(Request, finish_waits_for_the_end_only) {
    const auto request = make();
    request->append(1, "a");
    EXPECT_EQ(request->finish(Deadline::after(0.01)).error().code, ErrorCode::kTimedOut);
    std::jthread engine([&] {
        for (int i = 0; i < 1000; ++i) request->append(i, "x");
        request->complete(FinishReason::kLength, "");
    });
    const auto all = request->finish(Deadline::after(30));
    ASSERT_TRUE(all);
    EXPECT_EQ(all->tokens.size(), 1001U);
    EXPECT_EQ(all->text.size(), 1001U);
}

TEST(Request, a_reader_gets_everything_a_writer_writes) {
    const auto request = make();
    constexpr int kTokens = 20'000;
    std::jthread engine([&] {
        for (int i = 0; i < kTokens; ++i) request->append(i, "x");
        request->complete(FinishReason::kLength, "");
    });
    std::vector<Token> tokens;
    while (true) {
        const auto piece = request->next(Deadline::after(30));
        ASSERT_TRUE(piece);
        tokens.insert(tokens.end(), piece->tokens.begin(), piece->tokens.end());
        if (piece->outcome) break;
    }
    ASSERT_EQ(tokens.size(), static_cast<std::size_t>(kTokens));
    for (int i = 0; i < kTokens; ++i) ASSERT_EQ(tokens[static_cast<std::size_t>(i)], i);
}

TEST(Request, an_error_reaches_the_reader_every_time) {
    const auto request = make();
    std::jthread engine([&] { request->fail(Error(ErrorCode::kModel, "broken")); });
    for (int i = 0; i < 2; ++i) {
        const auto result = request->finish(Deadline::after(30));
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().message, "broken");
    }
}

TEST(Request, a_waiting_reader_can_be_interrupted) {
    const auto request = make();
    Parker& reader = Parker::of_this_thread();
    std::jthread other([&] { reader.interrupt(); });
    EXPECT_EQ(request->next(Deadline::after(30)).error().code, ErrorCode::kInterrupted);
}

TEST(Request, tells_a_port_once) {
    const auto request = make();
    Ref<Port> port = *Port::open();
    using enum Request::Watch;
    ASSERT_EQ(request->watch(Request::Until::kFinished, port, 1), kWaits);
    request->append(1, "a");
    EXPECT_TRUE(port->drain().empty()) << "it has not finished";
    request->unwatch(*port, 1);
    EXPECT_EQ(request->watch(Request::Until::kAnything, port, 2), kReady) << "a token is there";
    EXPECT_TRUE(request->next(Deadline::now()));
    ASSERT_EQ(request->watch(Request::Until::kAnything, port, 3), kWaits);
    std::jthread engine([&] {
        for (int i = 0; i < 100; ++i) request->append(i, "x");
        request->complete(FinishReason::kStop, "");
    });
    engine.join();
    EXPECT_EQ(port->drain(), (std::vector<std::uint64_t>{3}));
    EXPECT_EQ(request->watch(Request::Until::kFinished, port, 4), kReady);
    EXPECT_EQ(request->finish(Deadline::now())->tokens.size(), 100U);
}

TEST(Request, one_consumer_waits_at_a_time) {
    using enum Request::Watch;
    const auto request = make();
    Ref<Port> port = *Port::open();
    ASSERT_EQ(request->watch(Request::Until::kAnything, port, 1), kWaits);
    EXPECT_EQ(request->watch(Request::Until::kAnything, *Port::open(), 1), kTaken);
    const auto second = request->next(Deadline::after(10));
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::kInvalidArgument);
    request->unwatch(*port, 2);
    request->unwatch(**Port::open(), 1);
    EXPECT_EQ(request->watch(Request::Until::kAnything, port, 2), kTaken) << "those were others' waits";
    request->append(1, "a");
    EXPECT_EQ(port->drain(), (std::vector<std::uint64_t>{1})) << "the first is told as if nothing had been";
    EXPECT_TRUE(request->next(Deadline::now()));

    std::atomic<bool> ended = false;
    std::jthread consumer([&] {
        while (!request->next(Deadline::never())) {  // while the one below waits
        }
        ended = true;
    });
    while (request->watch(Request::Until::kAnything, port, 3) != kTaken) request->unwatch(*port, 3);
    const auto third = request->next(Deadline::after(10));
    EXPECT_FALSE(third);
    EXPECT_FALSE(ended);
    request->append(2, "b");
    consumer.join();
    EXPECT_TRUE(ended);
}

TEST(Request, keeps_what_it_needs_until_it_is_gone) {
    std::shared_ptr<const Model> needed = std::make_shared<FakeModel>(hashed_letter);
    const std::weak_ptr<const Model> seen = needed;
    auto request = make_ref<Request>(RequestOptions{}, std::move(needed));
    request->complete(FinishReason::kStop, "");
    EXPECT_FALSE(seen.expired());
    request = nullptr;
    EXPECT_TRUE(seen.expired());
}

}  // namespace
}  // namespace syncyte
