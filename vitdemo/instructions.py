"""The instructions that the model was trained on and that the app offers, in both languages."""

# language -> name -> what is said to the model
PRESETS: dict[str, dict[str, str]] = {
    "en": {"describe": "Describe the picture.",
           "short": "Describe the picture in a few words."},
    "zh": {"describe": "描述这张图片。",
           "short": "用几个字描述这张图片。"},
}


def default_instruction(language: str) -> str:
    """What the model is told where the user gives no instruction."""
    return PRESETS[language]["describe"]
