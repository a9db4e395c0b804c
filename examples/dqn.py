"""Deep Q-learning: the states of a network while it acts, from its first episodes to its last.

The game is Catch: a ball falls through a board of 6 x 5 fields, and a paddle in the lowest row has
to be under it. The network learns from a replay memory and acts epsilon-greedily. Only its passes
while it acts are captured, with the number of the episode as their label. Counts of episodes add up
to those of a block of 50: an episode has five boards, so its efficiency has a low ceiling, and a
block shows how many states there are in all.
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

episodes = run["1"].counts_by()
efficiency = [100 * counts.efficiency() for counts in episodes.values()]
ends, shares, blocks = [], [], []
print("episodes   caught  distinct states     entropy  efficiency  of one episode")
for first in range(0, EPISODES, BLOCK):
    here = range(first, first + BLOCK)
    block = functools.reduce(operator.add, (episodes[episode] for episode in here))
    share = sum(caught[episode] for episode in here) / BLOCK
    of_one = sum(efficiency[episode] for episode in here) / BLOCK
    print(
        f"{first:3} to {first + BLOCK:3}{share:7.0%}{len(block):17}"
        f"{block.entropy():7.2f} bits{block.efficiency():12.1%}{of_one:14.1f} %"
    )
    ends.append(first + BLOCK)
    shares.append(100 * share)
    blocks.append(100 * block.efficiency())

_, (upper, lower) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, layout="constrained")
upper.plot(ends, shares, "o-", color="#0072B2")
upper.set(ylabel="balls caught in %", ylim=(0, 101))
lower.plot(range(EPISODES), efficiency, ".", color="#56B4E9", ms=4, label="an episode")
lower.axhline(100 * ts.information.ceiling(5, 24), color="#767676", ls=":", label="its ceiling")
lower.plot(ends, blocks, "s-", color="#D55E00", label=f"{BLOCK} episodes")
lower.set(xlabel="episodes", ylabel="efficiency of the\nhidden layer in %", ylim=(0, None))
lower.legend(frameon=False, ncols=3)
upper.figure.savefig("dqn.png", dpi=80)
