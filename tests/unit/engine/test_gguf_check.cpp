#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "engine/gguf_check.h"

namespace syncyte {
namespace {

using ::testing::HasSubstr;

// Puts a GGUF file together, piece by piece.
class Bytes {
  public:
    template <class T>
    Bytes& number(T value) {
        char raw[sizeof value];
        std::memcpy(raw, &value, sizeof value);
        text_.append(raw, sizeof value);
        return *this;
    }
    Bytes& string(const std::string& value) {
        number<std::uint64_t>(value.size());
        text_ += value;
        return *this;
    }
    Bytes& zeros(std::size_t count) {
        text_.append(count, '\0');
        return *this;
    }
    Bytes& align() { return zeros((32 - text_.size() % 32) % 32); }

    [[nodiscard]] const std::string& text() const { return text_; }

  private:
    std::string text_;
};

constexpr std::uint32_t kU32 = 4;
constexpr std::uint32_t kF32Value = 6;
constexpr std::uint32_t kText = 8;
constexpr std::uint32_t kArray = 9;

struct Shape {
    std::uint64_t tensors = 2;
    std::uint32_t layers = 2;
    std::string second_token = "b";
    std::uint32_t tensor_type = 0;  // F32
    std::uint64_t width = 8;
    std::uint64_t second_offset = 128;
    std::string second_name = "two";
};

std::string file_of(const Shape& shape = {}) {
    Bytes file;
    file.number<std::uint32_t>(0x46554747).number<std::uint32_t>(3);
    file.number<std::uint64_t>(shape.tensors).number<std::uint64_t>(4);
    file.string("general.architecture").number(kText).string("llama");
    file.string("llama.block_count").number(kU32).number(shape.layers);
    file.string("tokenizer.ggml.tokens").number(kArray).number(kText).number<std::uint64_t>(2);
    file.string("a").string(shape.second_token);
    file.string("tokenizer.ggml.scores").number(kArray).number(kF32Value).number<std::uint64_t>(2).zeros(8);
    const auto tensor = [&](const std::string& name, std::uint64_t offset) {
        file.string(name).number<std::uint32_t>(2).number(shape.width).number<std::uint64_t>(4);
        file.number(shape.tensor_type).number(offset);
    };
    if (shape.tensors > 0) tensor("one", 0);
    if (shape.tensors > 1) tensor(shape.second_name, shape.second_offset);
    file.align().zeros(256);
    return file.text();
}

class GgufCheck : public ::testing::Test {
  protected:
    void TearDown() override { std::filesystem::remove(path_); }

    Result<void> check_bytes(const std::string& bytes) {
        std::ofstream(path_, std::ios::binary) << bytes;
        return check_gguf(path_);
    }
    std::string complaint(const std::string& bytes) {
        const Result<void> result = check_bytes(bytes);
        if (result) return "sound";
        EXPECT_EQ(result.error().code, ErrorCode::kModel);
        return result.error().message;
    }

    const std::string path_ = ::testing::TempDir() + "gguf_check_" +
                              ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".gguf";
};

TEST_F(GgufCheck, a_sound_file_passes) { EXPECT_EQ(complaint(file_of()), "sound"); }

TEST_F(GgufCheck, each_inconsistency_is_named) {
    EXPECT_THAT(complaint(file_of({.tensors = 0})), HasSubstr("vocabulary only"));
    EXPECT_THAT(complaint(file_of({.layers = 0})), HasSubstr("claims 0 layers"));
    EXPECT_THAT(complaint(file_of({.layers = 4000})), HasSubstr("claims 4000 layers"));
    EXPECT_THAT(complaint(file_of({.second_token = "a"})), HasSubstr("token 'a' is in the vocabulary twice"));
    EXPECT_THAT(complaint(file_of({.tensor_type = 4})), HasSubstr("unknown type 4"));  // removed long ago
    EXPECT_THAT(complaint(file_of({.tensor_type = 4000})), HasSubstr("unknown type"));
    EXPECT_THAT(complaint(file_of({.tensor_type = 2})), HasSubstr("impossible shape"));  // blocks of 32
    EXPECT_THAT(complaint(file_of({.width = 0})), HasSubstr("impossible shape"));
    EXPECT_THAT(complaint(file_of({.width = std::uint64_t{1} << 62})), HasSubstr("impossible shape"));
    EXPECT_THAT(complaint(file_of({.second_offset = 7})), HasSubstr("impossible place"));
    EXPECT_THAT(complaint(file_of({.second_offset = 4096})), HasSubstr("truncated: its tensors end"));
    EXPECT_THAT(complaint(file_of({.second_name = "one"})), HasSubstr("'one' is there twice"));
}

TEST_F(GgufCheck, truncated_anywhere) {
    const std::string whole = file_of();
    for (std::size_t size = 0; size < whole.size(); ++size) {
        EXPECT_NE(complaint(whole.substr(0, size)), "sound") << size;
    }
}

TEST_F(GgufCheck, damage_is_reported_never_followed) {
    const std::string whole = file_of();
    std::uint32_t state = 7;
    const auto draw = [&state](std::size_t below) {
        state = state * 1664525 + 1013904223;
        return (state >> 8) % below;
    };
    int sound = 0;
    for (int i = 0; i < 3000; ++i) {
        std::string copy = whole;
        for (std::size_t k = 1 + draw(3); k > 0; --k)
            copy[draw(copy.size() - 256)] = static_cast<char>(draw(256));
        sound += complaint(copy) == "sound" ? 1 : 0;
    }
    EXPECT_LT(sound, 2000);
}

TEST_F(GgufCheck, what_is_no_file) {
    EXPECT_EQ(check_gguf(path_ + ".missing").error().code, ErrorCode::kNotFound);
    EXPECT_THAT(check_gguf(::testing::TempDir()).error().message, HasSubstr("directory"));
    EXPECT_THAT(check_gguf("/dev/null").error().message, HasSubstr("not a regular file"));
    EXPECT_EQ(check_gguf(std::string("a\0b", 3)).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace syncyte
