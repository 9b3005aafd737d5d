"""What a map can and cannot say, in plain words: in every report, and at the end of the tour."""

CAN = (
    "It shows which parts of the picture the model used most when it came to a word.",
    "With its evidence, it shows whether these parts matter: blur them, and see if the word goes.",
    "It helps to find mistakes: a right word that comes from the wrong place is a warning.",
    "It lets you compare words, methods and models on the same picture.",
)
CANNOT = (
    "It does not say why. Looking at a place is not the same as having a reason.",
    "It does not say that the model is right. A model can look at the right place and say the "
    "wrong word.",
    "It is no finer than its grid. The smooth colours between two regions are drawn, not measured.",
    "Words such as “a” or “of” mostly follow from the sentence. Their maps mean little.",
    "Other methods can give other maps. Where they disagree, trust the evidence, not the colours.",
    "The evidence has limits, too: the model has hardly ever seen pictures with blurred patches.",
    "It is about this one model and this one picture. It does not carry over to others.",
)
