"""What the guided tour says, in plain words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Station:
    """One page of the tour: a short name for the row of steps, a heading, and its paragraphs."""

    name: str
    title: str
    text: tuple[str, ...]


STATIONS = (
    Station("A map", "1. What is a map?", (
        "The model looks at a picture and writes a sentence, one word after the other. For each "
        "word it looks at the picture anew. People call this “attention”.",
        "A map shows where it looked. Choose a word below. Bright places are those that the model "
        "looked at most for this word.")),
    Station("Does it matter?", "2. Does the place matter?", (
        "A bright spot looks convincing. But did the model need it? There is a way to find out: "
        "take it away.",
        "We blur the fifth of the picture where the map is strongest, and let the model try again. "
        "To be fair, we also blur a fifth that is picked by chance. If the map is worth anything, "
        "the first must do more harm than the second.")),
    Station("Blank picture", "3. Would it have said so anyway?", (
        "A model knows how sentences go. After “a black and white” it may well say “dog” with its "
        "eyes shut.",
        "So we show it a picture that is nothing but grey. A word that is just as likely now did "
        "not come from your picture, and its map means little.")),
    Station("Shuffled words", "4. Is the map about the word, or about its place?", (
        "Now we put the same words in a silly order, and ask for their maps once more.",
        "If a map is about its word, it moves along with the word. If it stays behind, it was "
        "about the place in the sentence. Compare the two rows of words below.")),
    Station("Random model", "5. Did the model learn this?", (
        "The hardest check comes last. We copy the model, and replace everything it has learned by "
        "random numbers. The copy knows nothing at all.",
        "Its maps must fall apart. If they looked like the real ones, maps would tell us nothing "
        "about what a model has learned. Some methods fail this check. (Adebayo and others "
        "thought of it in 2018.)")),
    Station("The end", "What a map can and cannot say", (
        "You have seen what maps are, and four ways to doubt them. This is what stays:",)),
)
LAST = len(STATIONS) - 1

RUNNING = "The model is at work. This takes a few seconds."
EMPTY = "A grey picture"
TRY = ("Now try it with a picture of your own, in the tab Describe. Every map there carries its "
       "evidence.")
NO_EXAMPLES = ("The tour needs example photographs, and this app was started without any "
               "(--examples).")
