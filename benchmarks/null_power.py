"""Error rates and power of everything that judges synthetic images by the scores of images that are not copies.

    python benchmarks/null_power.py                 # all tables, about 10 minutes on one core
    python benchmarks/null_power.py --tables tail   # one of them

No images: scores are drawn from shapes of tail, or are the highest cosines of random unit vectors, where training,
null and synthetic images depend on each other as in an audit. A held size is at most its level.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from monai_deepssim.calibration import (
    NullScores,
    benjamini_hochberg,
    conformal_p_values,
    discoveries_at_fdr,
    find_discoveries,
    find_partners,
    find_unexplained,
    leave_one_out_null,
    leave_out_duplicates,
    stretch_scores,
)

NUM_TRAINING = 2000


@dataclass
class Highest:
    """The highest of many similarities."""

    similarity: stats.rv_continuous
    count: int = NUM_TRAINING

    def rvs(self, size: int, random_state: np.random.Generator) -> np.ndarray:
        return self.similarity.isf(-np.expm1(np.log(random_state.random(size)) / self.count))

    def sf(self, score: np.ndarray) -> np.ndarray:
        return -np.expm1(self.count * np.log1p(-np.minimum(self.similarity.sf(score), 1 - 1e-16)))


@dataclass
class Mixture:
    """Most images, and a few that are closer."""

    most: stats.rv_continuous
    few: stats.rv_continuous
    share: float

    def rvs(self, size: int, random_state: np.random.Generator) -> np.ndarray:
        most, few = (shape.rvs(size=size, random_state=random_state) for shape in (self.most, self.few))
        return np.where(random_state.random(size) < self.share, few, most)

    def sf(self, score: np.ndarray) -> np.ndarray:
        return (1 - self.share) * self.most.sf(score) + self.share * self.few.sf(score)


# The first eight are bounded by 1 but for a probability below one in a million, as similarities are; the last two are
# heavier than any bounded score's tail, to see what then happens.
SHAPES = {
    "exponential": stats.expon(0.4, 0.03),
    "normal": stats.norm(0.5, 0.04),
    "highest normal": Highest(stats.norm(0, 0.13)),
    "highest cosine": Highest(stats.beta(5.5, 5.5, loc=-1, scale=2)),
    "highest beta": Highest(stats.beta(2, 12)),
    "beta": stats.beta(8, 8),
    "mixture 10 %": Mixture(stats.norm(0.5, 0.03), stats.norm(0.6, 0.03), 0.1),
    "mixture 3 %": Mixture(stats.norm(0.5, 0.03), stats.norm(0.62, 0.02), 0.03),
    "heavy: Pareto 0.2": stats.genpareto(0.2, 0.4, 0.03),
    "heavy: Student t5": stats.t(5, 0.5, 0.03),
}
LEVELS = np.array([5e-3, 1e-3, 5e-4, 1e-4, 5e-5])


def tail_sizes(num_runs: int) -> None:
    """How often an image that is not a copy has a refined p-value at or below the level, divided by the level."""
    print(f"\n## Size of the refined p-values, divided by the level ({num_runs} nulls)\n")
    print("The last column is the size at 0.0001 of the same fit, taken for the truth as it is.\n")
    columns = ["null scores", "shape", *(f"{level:g}" for level in LEVELS), "tail used", "plain fit"]
    print(f"| {' | '.join(columns)} |\n" + "| --- " * len(columns) + "|")
    for num_null in (100, 199, 400, 2000):
        for name, shape in SHAPES.items():
            generator, rows = np.random.default_rng(1), []
            for _ in range(num_runs):
                null = NullScores(shape.rvs(size=num_null, random_state=generator))
                tail = null.tail
                grid = np.linspace(np.median(null.scores), 4 * max(null.scores) - 3 * np.median(null.scores), 400)
                sizes = sizes_at_levels(null.refined_p_values(grid), grid, shape)
                fitted = stats.genpareto(tail.shape, tail.threshold, tail.scale)
                plain = sizes_at_levels(
                    tail.num_excesses / num_null * fitted.sf(stretch_scores(grid, null.scores)), grid, shape
                )
                rows.append([*(sizes / LEVELS), tail.is_usable, plain[3] / LEVELS[3]])
            print(f"| {num_null} | {name} | {row_text(rows)} |", flush=True)


def sizes_at_levels(p_values: np.ndarray, grid: np.ndarray, shape: stats.rv_continuous) -> np.ndarray:
    """How often a score has a p-value at or below each level; between two points of the grid, the higher size."""
    first = np.array([np.argmax(p_values <= level) for level in LEVELS])
    return np.where(p_values[-1] <= LEVELS, shape.sf(grid[np.maximum(first - 1, 0)]), 0.0)


def plain_copies(generator: np.random.Generator, count: int) -> np.ndarray:
    """What plain copies score: compressed, resampled, a little noise."""
    return np.clip(generator.normal(0.95, 0.03, count), None, 1.0)


def discoveries_with_holdout(num_runs: int) -> None:
    """False-discovery proportion and power at 5 %, copies among 1,000 synthetic images."""
    print(f"\n## False-discovery rate at 5 % and power, 1,000 synthetic images ({num_runs} audits)\n")
    print("| null scores | shape | copies | FDR | power | power, exact alone | could call |\n" + "| --- " * 7 + "|")
    for num_null, num_copies in ((199, 0), (199, 10), (400, 10)):
        for name, shape in SHAPES.items():
            generator, rows = np.random.default_rng(2), []
            for _ in range(num_runs):
                null = NullScores(shape.rvs(size=num_null, random_state=generator))
                clean = shape.rvs(size=1000 - num_copies, random_state=generator)
                result = find_discoveries(np.append(plain_copies(generator, num_copies), clean), null)
                rows.append(proportions(result, num_copies))
            print(f"| {num_null} | {name} | {num_copies} | {row_text(rows)} |", flush=True)


def proportions(result, num_copies: int) -> tuple[float, float, float, float]:
    false = result.is_discovery[num_copies:].sum()
    power = result.is_discovery[:num_copies].mean() if num_copies else np.nan
    is_exact = discoveries_at_fdr(benjamini_hochberg(result.p_values), result.fdr)
    exact = is_exact[:num_copies].mean() if num_copies else np.nan
    return false / max(result.count, 1), power, exact, result.can_call


def row_text(rows: list) -> str:
    return " | ".join(f"{value:.3f}" for value in np.mean(np.array(rows, dtype=float), axis=0))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def draw_patients(generator: np.random.Generator, sizes: np.ndarray, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    patients = np.repeat(np.arange(len(sizes)), sizes)
    centres = generator.standard_normal((len(sizes), dimensions), dtype=np.float32)[patients]
    return unit(centres + 0.2 * generator.standard_normal(centres.shape, dtype=np.float32)), patients


def leave_one_out(
    training: np.ndarray, patients: np.ndarray, rows: np.ndarray, duplicate_threshold: float | None = None
) -> NullScores:
    """The null as an audit makes it."""
    similarity = training[rows] @ training.T
    similarity[patients[rows, None] == patients] = -1
    scores, nearest = similarity.max(axis=1), similarity.argmax(axis=1)
    keep, count = np.ones(len(rows), bool), 0
    if duplicate_threshold is not None:
        left_out = leave_out_duplicates(scores, duplicate_threshold, partners=find_partners(nearest, rows))
        keep, count = ~left_out.flags, left_out.count
    return leave_one_out_null(scores[keep], nearest[keep], rows[keep], patients[rows[keep]], num_left_out=count)


def leave_one_out_sizes(num_runs: int) -> None:
    """Size of plain leave-one-out p-values, and of those with one more vote, at levels down to the smallest."""
    print(f"\n## Size of leave-one-out p-values at multiples of 1 / (G + 1), divided by the level ({num_runs} sets)\n")
    print("| patients | images of each | counted | 1 | 2 | 4 | 0.1 (G + 1) |\n" + "| --- " * 7 + "|")
    for num_patients, slices in ((30, 1), (30, 5), (200, 1), (200, 5), (2000, 1)):
        generator, sizes = np.random.default_rng(3), {"plainly": [], "with one more vote": []}
        levels = np.array([1, 2, 4, max(5, 0.1 * (num_patients + 1))]) / (num_patients + 1)
        for _ in range(num_runs if num_patients < 2000 else num_runs // 10):
            counts = np.full(num_patients, 1) if slices == 1 else generator.integers(1, 2 * slices, num_patients)
            training, patients = draw_patients(generator, counts, dimensions=8)
            null = leave_one_out(training, patients, np.arange(len(training)))
            synthetic, _ = draw_patients(generator, np.ones(500, int), dimensions=8)
            scores = (synthetic @ training.T).max(axis=1)
            plainly = conformal_p_values(scores, null.scores, null.groups)
            for key, p_values in (("plainly", plainly), ("with one more vote", null.p_values(scores))):
                sizes[key].append([(p_values <= level * (1 + 1e-9)).mean() / level for level in levels])
        for key, values in sizes.items():
            print(f"| {num_patients} | {slices} | {key} | {row_text(values)} |", flush=True)


def discoveries_with_leave_one_out(num_runs: int) -> None:
    """Training sets as null: 200 of 2,000 images, none or 1 % copies, and with duplicates in the training set."""
    print(f"\n## 200 of 2,000 training images as null, 1,000 synthetic images ({num_runs} audits)\n")
    columns = ["dimensions", "images of each", "duplicated", "copies", "FDR", "power", "power, exact alone"]
    print(f"| {' | '.join(columns)} | could call | clean set with unexplained |\n" + "| --- " * 9 + "|")
    cases = [(d, s, 0.0, c) for d in (32, 64) for s in (1, 4) for c in (0, 10)]
    for dimensions, slices, duplicated, num_copies in [*cases, (64, 1, 0.05, 300), (64, 1, 0.05, 10)]:
        generator, rows = np.random.default_rng(4), []
        for _ in range(num_runs):
            training, patients = draw_patients(generator, np.full(NUM_TRAINING // slices, slices), dimensions)
            num_duplicates = int(duplicated * NUM_TRAINING)
            if num_duplicates:
                training[:num_duplicates] = blurred(generator, training[-num_duplicates:])
            scored = np.sort(generator.choice(NUM_TRAINING, 200, replace=False))
            null = leave_one_out(training, patients, scored, duplicate_threshold=0.86)
            copied = training[generator.choice(NUM_TRAINING, num_copies, replace=False)]
            strangers, _ = draw_patients(generator, np.ones(1000 - num_copies, int), dimensions)
            synthetic = np.concatenate([blurred(generator, copied), strangers])
            scores = (synthetic @ training.T).max(axis=1)
            is_flagged = find_unexplained(scores[num_copies:], null.measurements).count > 0
            rows.append([*proportions(find_discoveries(scores, null), num_copies), is_flagged])
        print(f"| {dimensions} | {slices} | {duplicated:.0%} | {num_copies} | {row_text(rows)} |", flush=True)


def blurred(generator: np.random.Generator, images: np.ndarray) -> np.ndarray:
    """Copies at a cosine of about 0.95."""
    noise = generator.standard_normal(images.shape, dtype=np.float32)
    return unit(images + 0.33 * unit(noise))


def false_alarms_of_unexplained(num_runs: int) -> None:
    """How often a clean set has a flag at all."""
    print(f"\n## Clean sets with an unexplained image, at a level of 5 % ({num_runs} sets)\n")
    print("| synthetic | null | " + " | ".join(SHAPES) + " |\n" + "| --- " * (2 + len(SHAPES)) + "|")
    sizes = [(20, 10), (20, 200), (100, 10), (100, 200), (1000, 10), (1000, 200), (5000, 200), (5000, 2000)]
    for num_images, num_null in sizes:
        print(f"| {num_images} | {num_null} | {flag_rates(num_runs, num_images, num_null, 0.0)} |", flush=True)
    print(
        "\n100 synthetic images against 200 null scores, synthetic ones closer by a share of the standard deviation:\n"
    )
    print("| closer by | " + " | ".join(SHAPES) + " |\n" + "| --- " * (1 + len(SHAPES)) + "|")
    for shift in (0.5, 1.0, 2.0, 6.0):
        print(f"| {shift} | {flag_rates(num_runs, 100, 200, shift)} |", flush=True)


def flag_rates(num_runs: int, num_images: int, num_null: int, shift: float) -> str:
    rates = []
    for shape in SHAPES.values():
        generator, flagged = np.random.default_rng(5), 0
        offset = shift * shape.rvs(size=10000, random_state=generator).std()
        for _ in range(num_runs):
            null = shape.rvs(size=num_null, random_state=generator)
            flagged += find_unexplained(shape.rvs(size=num_images, random_state=generator) + offset, null).count > 0
        rates.append(flagged / num_runs)
    return " | ".join(f"{rate:.3f}" for rate in rates)


def power_of_unexplained(num_runs: int) -> None:
    """Copies at 0.754 to 0.821 among clean images that score 0.612 at most."""
    print(f"\n## Unexplained images: copies flagged, and sets with a clean image among them ({num_runs} sets)\n")
    print("| clean | copies | null | all copies flagged | share flagged | any clean flagged |\n" + "| --- " * 6 + "|")
    similarities = stats.truncnorm(-4, 2.5, 0.5, 0.045)
    for num_clean, num_copies in ((100, 15), (0, 20), (100, 1), (1000, 5)):
        for num_null in (3, 10, 50, 200):
            generator, rows = np.random.default_rng(6), []
            for _ in range(num_runs):
                clean, null = (similarities.rvs(size, random_state=generator) for size in (num_clean, num_null))
                copies = generator.uniform(0.754, 0.821, num_copies)
                flags = find_unexplained(np.append(copies, clean), null).flags
                rows.append((flags[:num_copies].all(), flags[:num_copies].mean(), flags[num_copies:].any()))
            print(f"| {num_clean} | {num_copies} | {num_null} | {row_text(rows)} |", flush=True)


TABLES: dict[str, tuple[Callable[[int], None], int]] = {
    "tail": (tail_sizes, 200),
    "holdout": (discoveries_with_holdout, 200),
    "leave_one_out": (leave_one_out_sizes, 400),
    "training": (discoveries_with_leave_one_out, 200),
    "false_alarms": (false_alarms_of_unexplained, 400),
    "unexplained": (power_of_unexplained, 400),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--runs", type=int, help="repetitions of each line")
    arguments = parser.parse_args()
    for name in arguments.tables:
        table, num_runs = TABLES[name]
        table(arguments.runs or num_runs)


if __name__ == "__main__":
    main()
