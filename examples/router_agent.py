"""A router agent hands each request to a specialist agent, and every specialist lives in its own interpreter.

The router asks the model who should take a request and puts it into that specialist's queue; the specialists
answer into one queue that all of them share.
"""

import syncyte

SPECIALISTS = {
    "navigation": "I plan the way and keep an eye on the traffic.",
    "vision": "I look at the pictures and tell what is in them.",
    "voice": "I listen, transcribe and speak.",
    "logistics": "I book the transport and follow the parcel.",
}
REQUESTS = [
    "Show me the fastest way to the airport",
    "How many people are in this photo?",
    "Read this message aloud",
    "Where is my parcel?",
    "Transcribe this phone call",
    "Send the crate to our branch in Oslo",
    "Is there a crack in this picture?",
    "How far is it from Rome to Vienna?",
]


def specialist(name: str, skill: str, inbox: syncyte.Queue, replies: syncyte.Queue) -> int:
    """Serves its queue until that is shut down; returns how many requests it took."""
    from concurrent import interpreters

    place = interpreters.get_current().id
    taken = 0
    for request in inbox:
        taken += 1
        replies.put((request, f"{name} (interpreter {place}): {skill}"))
    return taken


def main() -> None:
    model = syncyte.Model()
    inboxes = {name: syncyte.Queue() for name in SPECIALISTS}
    replies: syncyte.Queue = syncyte.Queue()
    with syncyte.InterpreterPool(len(SPECIALISTS)) as pool:
        served = {n: pool.submit(specialist, n, s, inboxes[n], replies) for n, s in SPECIALISTS.items()}
        for request in REQUESTS:
            choice = model.chat([{"role": "user", "content": f"Route: {request}"}], temperature=0).text
            inboxes.get(choice, inboxes["voice"]).put(request)
        for _ in REQUESTS:
            request, reply = replies.get()
            print(f"{request}\n    {reply}")
        for inbox in inboxes.values():
            inbox.shutdown()
        print({name: future.result() for name, future in served.items()})


if __name__ == "__main__":
    main()
