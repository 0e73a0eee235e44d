"""A drone mission in plain words becomes actions: a pilot agent in its own interpreter turns each instruction
into JSON, and a simulated drone carries it out."""

import json
import math

import syncyte

MISSION = [
    "Take off to 20 metres",
    "Fly to 48.1372, 11.5756 at 60 m",
    "Turn to face east",
    "Take a picture of the bridge",
    "Move 40 m north",
    "Hover for 15 seconds",
    "Descend to 25 metres",
    "Come back home",
    "Land",
]
NORTH_EAST = {"north": (1, 0), "south": (-1, 0), "east": (0, 1), "west": (0, -1)}


def pilot(orders: syncyte.Queue, actions: syncyte.Queue) -> None:
    """Answers each order with the model's action; ends when the orders do."""
    model = syncyte.Model()
    for order in orders:
        said = [{"role": "user", "content": order}]
        actions.put((order, model.chat(said, temperature=0, json_object=True).text))
    actions.shutdown()


def carry_out(drone: dict[str, float], action: dict[str, object]) -> None:
    """Changes the drone's position, height (m) and heading (degrees) as the action says."""
    if action["action"] == "move" and action["direction"] in NORTH_EAST:
        north, east = NORTH_EAST[str(action["direction"])]
        drone["lat"] += north * float(str(action["meters"])) / 111_320
        drone["lon"] += east * float(str(action["meters"])) / (111_320 * math.cos(math.radians(drone["lat"])))
    elif action["action"] == "return_home":
        drone.update(lat=48.0, lon=11.0)
    elif action["action"] == "land":
        drone["alt"] = 0
    drone.update({name: float(str(action[name])) for name in drone if name in action})


def main() -> None:
    orders, actions = syncyte.Queue(), syncyte.Queue()
    drone = {"lat": 48.0, "lon": 11.0, "alt": 0.0, "heading": 0.0}
    with syncyte.InterpreterPool(1) as pool:
        pool.submit(pilot, orders, actions)
        orders.put_many(MISSION)
        orders.shutdown()
        for order, text in actions:
            carry_out(drone, json.loads(text))
            print(f"{order:32} {text:62} " + " ".join(f"{name} {value:.5g}" for name, value in drone.items()))


if __name__ == "__main__":
    main()
