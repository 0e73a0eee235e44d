#include "python/leaving.h"

#include "python/state.h"

namespace syncyte::python {

// Owned by the module and by the interpreter's exit hook, which can end in either order.
struct Leavers {
    Leaver head{&head, &head, nullptr};  // circular
    int owners = 2;

    void drop() {
        if (--owners == 0) delete this;
    }
};

namespace {

void at_exit(void* data) {
    auto* leavers = static_cast<Leavers*>(data);
    while (leavers->head.next != &leavers->head) {
        Leaver* leaver = leavers->head.next;
        remove_leaver(*leaver);
        leaver->leave(leaver);
    }
    leavers->drop();
}

}  // namespace

void add_leaver(ModuleState& state, Leaver& leaver, void (*leave)(Leaver*)) {
    Leaver& head = state.leavers->head;
    leaver = {&head, head.previous, leave};
    head.previous->next = &leaver;
    head.previous = &leaver;
}

void remove_leaver(Leaver& leaver) {
    if (leaver.next == nullptr) return;
    leaver.previous->next = leaver.next;
    leaver.next->previous = leaver.previous;
    leaver.next = leaver.previous = nullptr;
}

int register_leaving(PyObject* /*module*/, ModuleState& state) {
    state.leavers = new Leavers;
    if (PyUnstable_AtExit(PyInterpreterState_Get(), at_exit, state.leavers) == 0) return 0;
    state.leavers->drop();
    return -1;
}

void unregister_leaving(ModuleState& state) {
    if (state.leavers != nullptr) state.leavers->drop();
    state.leavers = nullptr;
}

}  // namespace syncyte::python
