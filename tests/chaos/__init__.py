"""The kill matrix: a production site under load, killed at named points, judged by what people in the chats see."""
