"""Deep Q-learning: the states of a network while it acts, from its first episodes to its last.

The game is Catch: a ball falls through a board of 6 x 5 fields, and a paddle in the lowest row has
to be under it. The network learns from a replay memory and acts epsilon-greedily. Only its passes
while it acts are captured, with the number of the episode as their label. One episode has five
boards and five states, which says nothing yet; its counts and those of the 49 before it add up.
"""

import functools
import operator
import random
from collections import deque

import matplotlib.pyplot as plt
import torch
from torch import nn

import tensorstate_gpu as ts

ROWS, COLUMNS, EPISODES, BLOCK = 6, 5, 400, 50


class Catch:
    """The board has a one where the ball is and where the paddle is. Actions: left, stay, right."""

    def reset(self):
        self.ball, self.row, self.paddle = random.randrange(COLUMNS), 0, COLUMNS // 2
        return self.board()

    def step(self, action):
        self.row += 1
        self.paddle = min(max(self.paddle + action - 1, 0), COLUMNS - 1)
        ended = self.row == ROWS - 1
        caught = 1.0 if self.ball == self.paddle else -1.0
        return self.board(), caught if ended else 0.0, ended

    def board(self):
        board = torch.zeros(ROWS, COLUMNS)
        board[self.row, self.ball] = 1
        board[ROWS - 1, self.paddle] = 1
        return board.flatten()


def learn(model, target, optimizer, memory):
    """One step towards what the target network expects of the boards that followed."""
    before, actions, rewards, after, ended = zip(*random.sample(memory, 32), strict=True)
    with torch.no_grad():
        future = target(torch.stack(after)).max(1).values * (1 - torch.tensor(ended).float())
    values = model(torch.stack(before)).gather(1, torch.tensor(actions)[:, None])[:, 0]
    loss = nn.functional.smooth_l1_loss(values, torch.tensor(rewards) + 0.9 * future)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def networks():
    return (
        nn.Sequential(nn.Linear(ROWS * COLUMNS, 24), nn.ReLU(), nn.Linear(24, 3)) for _ in range(2)
    )


random.seed(0)
torch.manual_seed(0)
game, memory, caught = Catch(), deque(maxlen=1000), []
model, target = networks()
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
with ts.capture(model, "ReLU") as run:
    for episode in range(EPISODES):
        if episode % 10 == 0:
            target.load_state_dict(model.state_dict())
        epsilon = max(0.05, 1 - episode / 200)
        board, ended = game.reset(), False
        while not ended:
            with torch.no_grad(), run.labels([episode]):
                action = int(model(board[None]).argmax())
            if random.random() < epsilon:
                action = random.randrange(3)
            after, reward, ended = game.step(action)
            memory.append((board, action, reward, after, ended))
            board = after
            if len(memory) >= 100:
                with run.paused():
                    learn(model, target, optimizer, memory)
        caught.append(reward > 0)

counts, ends = run["1"].counts_by(), range(BLOCK, EPISODES + 1)
recent = [functools.reduce(operator.add, map(counts.get, range(end - BLOCK, end))) for end in ends]
right = [sum(caught[end - BLOCK : end]) / BLOCK for end in ends]
print("episodes   caught  distinct states     entropy  efficiency")
for end, share, found in zip(ends[::BLOCK], right[::BLOCK], recent[::BLOCK], strict=True):
    print(
        f"{end - BLOCK:3} to {end:3}{share:7.0%}{len(found):17}"
        f"{found.entropy():7.2f} bits{found.efficiency():12.1%}"
    )

_, (upper, lower) = plt.subplots(2, 1, figsize=(7, 4.5), sharex=True, layout="constrained")
upper.plot(ends, [100 * share for share in right], color="#0072B2")
upper.set(ylabel=f"balls caught in %\n(last {BLOCK} episodes)", ylim=(0, 101))
lower.plot(ends, [100 * found.efficiency() for found in recent], color="#D55E00")
lower.axhline(100 * ts.information.ceiling(recent[0].total, 24), color="#767676", ls="--")
lower.set(xlabel="episode", ylabel="efficiency of the\nhidden layer in %", ylim=(0, None))
lower.text(ends[0], 34, "ceiling of so many boards", color="#767676", va="bottom")
upper.figure.savefig("dqn.png", dpi=80)
