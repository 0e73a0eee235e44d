"""An agent for `syncyte run`: sums are worked out, all else is asked of the model.

    syncyte run examples/agent.py "What is 17 * 23?" "Tell me a joke" "How to bake a cake"

`agent` is called once for each prompt, in one of several interpreters that work in parallel.
`model` is the one model they all share.
"""

import operator
import re

SUM = re.compile(r"what is (\d+) ?([-+*]) ?(\d+)\??", re.IGNORECASE)
WORK_OUT = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def agent(prompt, model):
    """Return the answer to one prompt: text, or a dict of whatever is worth keeping."""
    if found := SUM.fullmatch(prompt.strip()):
        left, sign, right = found.groups()
        return {"answer": WORK_OUT[sign](int(left), int(right)), "by": "arithmetic"}
    answer = model.chat([{"role": "user", "content": prompt}], max_tokens=100)
    return {"answer": answer.text.strip(), "by": "model", "complete": answer.finish_reason == "stop"}
