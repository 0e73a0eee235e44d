#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "value/buffer.h"

namespace syncyte {
namespace {

TEST(Buffer, zeroed_and_aligned) {
    for (const std::size_t size : {0, 1, 63, 64, 65, 1 << 20, (1 << 21) + 1}) {
        const Ref<Buffer> buffer = Buffer::allocate(size);
        ASSERT_TRUE(buffer);
        EXPECT_EQ(buffer->size(), size);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->data()) % Buffer::kAlignment, 0U);
        for (std::size_t i = 0; i < size; i += 997) EXPECT_EQ(buffer->data()[i], std::byte{0});
        if (size > 0) buffer->data()[size - 1] = std::byte{1};
    }
}

TEST(Buffer, more_than_there_is) {
    EXPECT_FALSE(Buffer::allocate(~std::size_t{0}));
    EXPECT_FALSE(Buffer::allocate(~std::size_t{0} / 2));
}

TEST(Buffer, freezes_once_nobody_writes) {
    const Ref<Buffer> buffer = Buffer::allocate(10);
    ASSERT_TRUE(buffer->begin_writing());
    ASSERT_TRUE(buffer->begin_writing());
    buffer->end_writing();
    EXPECT_FALSE(buffer->freeze());
    buffer->end_writing();
    EXPECT_FALSE(buffer->frozen());
    EXPECT_TRUE(buffer->freeze());
    EXPECT_TRUE(buffer->freeze());
    EXPECT_TRUE(buffer->frozen());
    EXPECT_FALSE(buffer->begin_writing());
}

TEST(Buffer, freezing_races_with_writers) {
    for (int round = 0; round < 30; ++round) {
        const Ref<Buffer> buffer = Buffer::allocate(8);
        std::vector<std::thread> threads;
        for (int i = 0; i < 3; ++i) {
            threads.emplace_back([buffer, i] {
                while (buffer->begin_writing()) {
                    EXPECT_FALSE(buffer->frozen());
                    buffer->data()[i] = std::byte{1};
                    buffer->end_writing();
                    std::this_thread::yield();
                }
            });
        }
        while (!buffer->freeze()) std::this_thread::yield();
        // Ordered after every write by freeze().
        const std::byte seen = buffer->data()[0] | buffer->data()[1] | buffer->data()[2];
        for (auto& thread : threads) thread.join();
        EXPECT_EQ(seen, buffer->data()[0] | buffer->data()[1] | buffer->data()[2]);
    }
}

TEST(Buffer, maps_a_file) {
    const std::string path = testing::TempDir() + "syncyte_buffer_" + std::to_string(getpid());
    std::ofstream(path) << "contents";
    const auto buffer = Buffer::open(path.c_str());
    ASSERT_TRUE(buffer.has_value());
    EXPECT_EQ(std::memcmp((*buffer)->data(), "contents", 8), 0);
    EXPECT_TRUE((*buffer)->frozen());
    unlink(path.c_str());
    EXPECT_EQ(Buffer::open(path.c_str()).error(), ENOENT);
    EXPECT_EQ(Buffer::open("/").error(), EISDIR);
    EXPECT_EQ(Buffer::open("/dev/null").error(), ENODEV);
}

TEST(Buffer, attaches_a_segment) {
    const std::string name = "/syncyte_buffer_" + std::to_string(getpid());
    const int file = shm_open(name.c_str(), O_CREAT | O_RDWR | O_EXCL, 0600);
    ASSERT_GE(file, 0);
    ASSERT_EQ(ftruncate(file, 100), 0);
    close(file);
    const auto first = Buffer::attach(name, true);
    const auto second = Buffer::attach(name.substr(1), false);
    shm_unlink(name.c_str());
    ASSERT_TRUE(first && second);
    (*first)->data()[99] = std::byte{5};
    EXPECT_EQ((*second)->data()[99], std::byte{5});
    EXPECT_FALSE((*second)->begin_writing());
    EXPECT_EQ(Buffer::attach(name, true).error(), ENOENT);
}

TEST(BufferView, shapes) {
    const Ref<BufferView> bytes = make_ref<BufferView>(Buffer::allocate(48));
    const ElementType& f32 = *find_element_type("float32");
    const auto grid = bytes->view({2, {3, -1}}, f32);
    ASSERT_TRUE(grid.has_value());
    EXPECT_EQ((*grid)->shape(), (BufferView::Shape{2, {3, 4}}));
    EXPECT_EQ((*grid)->strides(), (BufferView::Shape{2, {16, 4}}));
    const Ref<BufferView> row = (*grid)->row(2);
    EXPECT_EQ(row->data(), bytes->data() + 32);
    EXPECT_EQ(row->shape(), (BufferView::Shape{1, {4}}));
    EXPECT_EQ((*grid)->slice(1, 3)->size(), 32U);
    EXPECT_EQ((*grid)->slice(1, 1)->size(), 0U);
    EXPECT_FALSE(bytes->view({1, {5}}, f32));
    EXPECT_FALSE(bytes->view({2, {-1, -1}}, f32));
    EXPECT_FALSE(bytes->view({2, {-1, 0}}, f32));
    EXPECT_FALSE(bytes->view({2, {std::int64_t{1} << 62, std::int64_t{1} << 62}}, f32));
    EXPECT_FALSE(bytes->slice(1, 9)->view({1, {2}}, f32)) << "not aligned";
    EXPECT_TRUE(*bytes->slice(1, 9) == *bytes->slice(1, 9));
    EXPECT_FALSE(*bytes->slice(1, 9) == *bytes->slice(1, 8));
    EXPECT_FALSE(bytes->read_only()->writable());
}

TEST(ElementType, by_either_name) {
    EXPECT_EQ(find_element_type("float64"), find_element_type("d"));
    EXPECT_EQ(find_element_type("q"), find_element_type("int64"));
    EXPECT_EQ(find_element_type("Q"), find_element_type("uint64"));
    EXPECT_EQ(find_element_type("float128"), nullptr);
    EXPECT_EQ(find_element_type(""), nullptr);
}

}  // namespace
}  // namespace syncyte
