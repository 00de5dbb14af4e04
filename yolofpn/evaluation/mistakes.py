"""Ranks what a detector and the labels of a data set disagree on: suspected label errors first.

How much each sign of a mistake says depends on the detector and the data. It is learned: mistakes are planted in a copy
of the labels, and a small network learns from the evidence which labels, and which places without one, they were.

Shapes: M objects of all images together, S suspects, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from yolofpn.evaluation.learned_ranking import Examples, learn_probability
from yolofpn.evaluation.mistake_evidence import Evidence
from yolofpn.evaluation.planted_mistakes import PLANTED_SHARE, Planted, plant_mistakes
from yolofpn.evaluation.table import DetectionTable, EvaluationTable, Floats, Ints, ObjectTable
from yolofpn.ops.array_boxes import box_iou

REPORT_THRESH = 0.05  # the lowest score of a detection that speaks for a missing label
FEWEST_LABELS = 100  # from which on it is learned what the evidence says; a rule decides below
EXAMPLES = 600  # planted mistakes that are learned from
FEWEST_PLANTED = 10  # that must be seen to learn from, in each half of the images
SURE = 0.9  # quantile of the planted mistakes at which a mistake is sure
MOST_ROUNDS = 12  # copies of the labels that they are planted in
_INVENTED = 0.7  # that nothing is detected says less than what is
_SAME_PLACE = 0.5  # IoU of a detection with a label that was dropped


class Mistake(StrEnum):
    """What is wrong, if the detector is right."""

    MISSED = "missing label"
    RENAMED = "wrong class"
    MOVED = "badly placed"
    INVENTED = "no such object"


KINDS = tuple(Mistake)


@dataclass(frozen=True)
class Suggestion:
    """A disagreement.

    Attributes:
        kind: what is wrong with the labels, if the detector is right.
        suspicion: how probably it is so, from 0 to 1; good for ordering only.
        image_id: the data set's id of the image.
        label: the class of the label; None where there is none.
        box: of the label, xyxy in pixels.
        detected_label: the class that was detected; None where nothing was.
        detected_box: where.
        score: of the detection.
        iou: of both boxes.
    """

    kind: Mistake
    suspicion: float
    image_id: int
    label: int | None = None
    box: tuple[float, ...] | None = None
    detected_label: int | None = None
    detected_box: tuple[float, ...] | None = None
    score: float = 0.0
    iou: float = 0.0


def find_mistakes(table: EvaluationTable, enlarged: DetectionTable | None = None) -> list[Suggestion]:
    """All disagreements, the most suspicious first; at most one for each label and each place without one.

    Args:
        table: detections down to a low score, and labels; ignore regions are no labels, and nothing is missing there.
        enlarged: detections in enlarged surroundings of each label, in pixels of the image; they speak for and against
            labels only, since there are none where a label is missing.
    """
    suspects = _Suspects(table, enlarged)
    learned = _learn(table, enlarged, suspects) if len(suspects.labels) >= FEWEST_LABELS else None
    suspicion = suspects.by_rule if learned is None else learned
    order = np.argsort(-suspicion, kind="stable")
    return [suspects.suggestion(row, float(suspicion[row])) for row in order.tolist() if suspects.by_rule[row] > 0]


def _learn(table: EvaluationTable, enlarged: DetectionTable | None, suspects: _Suspects) -> Floats | None:
    """[S] how probably each is a mistake, learned on the other half of the images; None if too few planted are seen.

    On the same images, real mistakes would be learned by heart as right labels. Nobody planted them, so where they are
    many, even sure ones seem improbable: each probability is divided by that of a planted mistake of the surer sort, as
    Elkan and Noto (KDD 2008) do to learn from positive and unlabelled examples.
    """
    rounds = min(MOST_ROUNDS, -(-EXAMPLES // max(1, round(PLANTED_SHARE * len(suspects.labels)))))
    planted = [plant_mistakes(table.objects, seed) for seed in range(rounds)]
    of_labels, of_places = zip(*(_examples(table, enlarged, each) for each in planted), strict=True)
    images = suspects.objects.images[suspects.labels], suspects.found.images[suspects.places]
    learned = [np.zeros(0)]
    for examples, asked, owner in zip(
        (of_labels, of_places), (suspects.label_features, suspects.place_features), images, strict=True
    ):
        if not len(asked):
            continue
        probability, of_planted = np.zeros(len(asked)), []
        for half in (0, 1):
            others = [each.where(each.images % 2 != half) for each in examples]
            if sum(int(each.wrong.sum()) for each in others) < FEWEST_PLANTED:
                return None
            rows = owner % 2 == half
            wrong = np.concatenate([each.features[each.wrong & (each.images % 2 == half)] for each in examples])
            both = learn_probability(others, np.concatenate([asked[rows], wrong]))
            probability[rows] = both[: rows.sum()]
            of_planted.append(both[rows.sum() :])
        learned.append(np.minimum(probability / np.quantile(np.concatenate(of_planted), SURE), 1.0))
    return np.concatenate(learned)


def _examples(table: EvaluationTable, enlarged: DetectionTable | None, planted: Planted) -> tuple[Examples, Examples]:
    """Features of the labels and of the places without one, and which of them are planted mistakes."""
    suspects = _Suspects(
        EvaluationTable(table.image_ids, table.detections, planted.objects, table.num_classes), enlarged
    )
    wrong = planted.wrong[suspects.labels]
    found = suspects.found.take(suspects.places)
    hit = np.zeros(len(found), dtype=np.bool_)
    for image in np.unique(planted.dropped.images):
        rows = np.flatnonzero(found.images == image)
        dropped = planted.dropped.boxes[planted.dropped.images == image]
        if len(rows):
            hit[rows] = (box_iou(found.boxes[rows], dropped) >= _SAME_PLACE).any(axis=1)
    return (
        Examples(suspects.label_features, wrong, suspects.objects.images[suspects.labels]),
        Examples(suspects.place_features, hit, found.images),
    )


class _Suspects:
    """Each label, then each place where a label may be missing.

    Attributes:
        found: all detections, then those of the enlarged surroundings.
        labels: rows of the labels among the objects.
        places: rows of the detections away from all labels.
        label_features: evidence for and against each label.
        place_features: evidence for a missing label at each place.
        by_rule: [S] a suspicion from 0 to 1 that needs no learning.
    """

    def __init__(self, table: EvaluationTable, enlarged: DetectionTable | None) -> None:
        self._ids = table.image_ids
        whole = Evidence(table)
        views = [whole]
        if enlarged is not None:
            views.append(Evidence(EvaluationTable(table.image_ids, enlarged, table.objects, table.num_classes)))
        self.objects: ObjectTable = table.objects
        self.found = _joined([view.found for view in views])
        self.labels: Ints = np.flatnonzero(~self.objects.ignore)
        self.places: Ints = whole.unlabelled(REPORT_THRESH)
        kinds, suspicion, rows = self._of_labels(views)
        missing = self.found.scores[self.places] * whole.trust[self.found.labels[self.places]]
        self._kinds = np.concatenate([kinds, np.full(len(self.places), KINDS.index(Mistake.MISSED))])
        self._detections = np.concatenate([rows, self.places])
        self.by_rule: Floats = np.concatenate([suspicion, missing])
        self.label_features = self._label_features(views, kinds)
        self.place_features = self._place_features(whole)

    def _of_labels(self, views: list[Evidence]) -> tuple[Ints, Floats, Ints]:
        """The likeliest mistake of each label: kind, suspicion, row of the detection or -1."""
        options, firsts = [], np.cumsum([0, *(len(view.found) for view in views)])
        for view, first in zip(views, firsts, strict=False):
            against = np.clip(1 - view.own, 0, 1)
            for kind, evidence in ((Mistake.RENAMED, view.renamed), (Mistake.MOVED, view.moved)):
                rows = np.where(evidence.rows < 0, -1, evidence.rows + first)
                options.append((KINDS.index(kind), evidence.values * against, rows))
        best = views[-1]
        lacking = np.clip(1 - best.own / np.maximum(best.expected, 1e-9), 0, 1)
        nothing = np.full(len(self.objects), -1, dtype=np.int64)
        options.append((KINDS.index(Mistake.INVENTED), _INVENTED * lacking * best.expected, nothing))
        values = np.stack([value for _, value, _ in options])[:, self.labels]
        choice = values.argmax(axis=0)
        column = np.arange(len(self.labels))
        kinds = np.array([kind for kind, _, _ in options])[choice]
        return kinds, values[choice, column], np.stack([rows for *_, rows in options])[:, self.labels][choice, column]

    def _label_features(self, views: list[Evidence], kinds: Ints) -> Floats:
        columns = [np.log(np.maximum(self.objects.areas, 1.0)), self._count_of(self.objects.images, None)]
        columns.append(self._count_of(self.objects.images, self.objects.labels))
        for view in views:
            against = (view.renamed.scores, view.renamed.values, view.moved.scores, view.moved.values)
            scores = (view.own, view.expected, view.usual[self.objects.labels], *against)
            columns += [*scores, np.log(view.own + 0.02), np.log(view.renamed.scores + 0.02)]
        one_hot = [kinds == KINDS.index(kind) for kind in (Mistake.RENAMED, Mistake.MOVED)]
        return np.stack([*(column[self.labels] for column in columns), *one_hot], axis=1).astype(np.float64)

    def _place_features(self, whole: Evidence) -> Floats:
        found = self.found.take(self.places)
        sides = found.boxes[:, 2:] - found.boxes[:, :2]
        # Not how many labels the image has: where labels are missing there are few, but planted mistakes need them.
        columns = (found.scores, np.log(found.scores), whole.trust[found.labels], whole.usual[found.labels])
        return np.stack([*columns, np.log(np.maximum(sides.prod(axis=1), 1.0))], axis=1)

    def _count_of(self, images: Ints, labels: Ints | None) -> Floats:
        """Logarithm of the number of labels in each of ``images``, of all classes or of each of ``labels``."""
        kept = self.objects.take(self.labels)
        if labels is None:
            return np.log1p(np.bincount(kept.images, minlength=len(self._ids))[images])
        classes = int(max(kept.labels.max(initial=0), labels.max(initial=0))) + 1
        groups = np.bincount(kept.images * classes + kept.labels, minlength=len(self._ids) * classes)
        counts: Floats = np.log1p(groups[images * classes + labels])
        return counts

    def suggestion(self, row: int, suspicion: float) -> Suggestion:
        """Row of all suspects -> what is suggested."""
        kind, detection = KINDS[self._kinds[row]], int(self._detections[row])
        if row < len(self.labels):
            thing = int(self.labels[row])
            image, label = int(self.objects.images[thing]), int(self.objects.labels[thing])
            box = self.objects.boxes[thing]
        else:
            image, label, box = int(self.found.images[detection]), None, None
        detected = None if detection < 0 else self.found.boxes[detection]
        iou = 0.0 if box is None or detected is None else float(box_iou(box[None], detected[None])[0, 0])
        return Suggestion(
            kind,
            suspicion,
            int(self._ids[image]),
            label,
            None if box is None else tuple(box.tolist()),
            None if detected is None else int(self.found.labels[detection]),
            None if detected is None else tuple(detected.tolist()),
            0.0 if detected is None else float(self.found.scores[detection]),
            iou,
        )


def _joined(tables: list[DetectionTable]) -> DetectionTable:
    if len(tables) == 1:
        return tables[0]
    boxes, scores = (np.concatenate([getattr(each, name) for each in tables]) for name in ("boxes", "scores"))
    labels, images = (np.concatenate([getattr(each, name) for each in tables]) for name in ("labels", "images"))
    return DetectionTable(boxes, scores, labels, images)
