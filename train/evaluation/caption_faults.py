"""What is wrong in captions, beside how near they come to people's: words said twice, people who
are not there, things that no person named.

The last is CHAIR (Rohrbach et al. 2018, "Object Hallucination in Image Captioning"), by what people
said alone, as there are no boxes.
"""

from collections.abc import Sequence

from train.grounding.coco_words import categories
from vitdemo.words import repeated_words


def fault_figures(captions: Sequence[str],
                  references: Sequence[Sequence[str]]) -> dict[str, float | None]:
    """Of one caption per picture against all that people said of that picture, in any language.

    "repeated": captions in which a content word stands twice, in percent. "person_unsaid": those
    that name a person where nobody did, in percent. "things_unsaid": COCO's categories that were
    named and that nobody named, per caption; "things_said": the share of the categories that
    people named that were named, in percent, None where people named none.
    """
    said = [categories(text) for text in captions]
    wanted = [set[str]().union(*map(categories, texts)) for texts in references]
    people = sum(map(len, wanted))
    wrong = [one - of for one, of in zip(said, wanted, strict=True)]
    right = sum(len(one & of) for one, of in zip(said, wanted, strict=True))
    count = len(captions)
    return {"repeated": 100 * sum(bool(repeated_words(text)) for text in captions) / count,
            "person_unsaid": 100 * sum("person" in of for of in wrong) / count,
            "things_unsaid": sum(map(len, wrong)) / count,
            "things_said": 100 * right / people if people else None}
