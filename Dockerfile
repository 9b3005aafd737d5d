# The page or an engine, as compose.yaml says.
FROM python:3.12-slim
WORKDIR /app
COPY requirements.txt requirements-milvus.txt requirements-serve.txt ./
RUN pip install --no-cache-dir -r requirements.txt -r requirements-milvus.txt -r requirements-serve.txt
COPY . .
RUN useradd --create-home vitdemo
USER vitdemo
