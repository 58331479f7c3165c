"""Claims: from the tidy table to an outcome and a scope, two things that the book shows in two columns.

A claim is a statement of a paper, what the paper says of it, the least evidence that may decide it, and a function from
`Evidence` to `Criterion`s: a statistic with one value a seed, and the threshold that it must meet. A claim is the
conjunction of its criteria.

    CLAIMS = Claims(study="rate_generalisation", scale=PAPER, axes=("beta", "depth", "split", "n_train"))

    @CLAIMS.claim("3.3", "Sparse, one layer: test D is U-shaped in beta", paper="...", steps=50_000)
    def one_layer_is_u_shaped(evidence):
        test, train = complete(...)
        return [effect(u_depth(test), above=0), effect(spearman(train), at_least=0.95)]

    verdict_table(CLAIMS, table)

The rules, and where they live:

1. a comparison is one paired difference a seed with a 95 % t interval over three seeds or more: `effect`;
2. "no effect" is an equivalence with a margin, never a failure to find: `absence`;
3. a published single number is met within a tolerance, and one seed decides: `number`;
4. budget: below the least one nothing is decided, the outcomes at 0.8 and at 1.0 of the steps must agree, and below the
   paper's steps an effect may still come and an absence may still go: `verdict`;
5. what is chosen on some seeds is decided on others: `u_depth` (leave one out), `selection_seed`;
6. budgets, precisions and settings are never mixed (`evidence_by_budget`); many comparisons are corrected (`holm`);
7. what is true by construction is marked and not counted: `Claim.by_construction`;
8. where a paper's numbers contradict its text, the numbers decide, and `Claim.note` says so.

Of conjunctions: a false one passes only if its false criterion does, so "reproduced" needs no correction (an
intersection-union test). A true one is refused as soon as one of k criteria is, so with k > 2 "not reproduced" takes
Bonferroni's wider intervals: both errors stay below 5 %.

At a threshold itself: `above`, `below` and the margin of an `absence` are strict, `at_least` and `at_most` are not, a
tolerance includes its ends, and an interval that only touches the threshold refuses nothing.

A claim about several data sets is judged on each, at its own best budget, and is their conjunction: a set that is not
available leaves it undecided where the others do not refuse it (`Claim.scale`, `Verdict.sets`).

Verdicts are pure functions of the table; bootstraps draw the same each time.
"""

# What notebooks, the ledger and CONTRIBUTING use; a study's claims take the rest from the modules themselves.
from vaekit.claims.curves import ClaimError, complete
from vaekit.claims.rules import (
    CONSTRUCTED,
    NEEDS_DATA,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    UNDECIDED,
    Claims,
    Verdict,
    absence,
    effect,
    number,
    verdict,
    verdict_table,
    verdicts,
)
from vaekit.claims.scope import PaperScale
from vaekit.claims.statistics import paired, spearman, u_depth
