"""Questions answered in parallel: an interpreter with a GIL of its own for each, one copy of the weights.

python examples/parallel_answers.py ["A question" ...]
"""

import sys

import syncyte

QUESTIONS = [
    "Tell me a joke",
    "Explain quantum physics",
    "How to bake a cake",
    "What is 17 + 25?",
    "How do I tie a bowline?",
    "Convert 3 hours to minutes",
    "Why is the sky blue?",
    "Who are you?",
]


def answer(question: str) -> tuple[str, int]:
    """Runs in a worker's interpreter: the model there is the same weights as everywhere in the process."""
    from concurrent import interpreters

    model = syncyte.Model()
    said = model.chat([{"role": "user", "content": question}], temperature=0)
    return said.text, interpreters.get_current().id


def main() -> None:
    questions = sys.argv[1:] or QUESTIONS
    with syncyte.InterpreterPool(4) as pool:
        for question, (text, interpreter) in zip(questions, pool.map(answer, questions), strict=True):
            print(f"{question}\n    {text}   [interpreter {interpreter}]")


if __name__ == "__main__":
    main()
