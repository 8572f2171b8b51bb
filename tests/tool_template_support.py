"""Chat templates that know tools, in the manner of the model families, written for these tests.

They differ in where the tools stand, in what form they take and write arguments, in whether a call and a text may stand in one turn, and
in what ends a turn of calls.
"""

from chat_template_support import LAST_USER, SPLIT, TURN, Family, make_tokenizer

TOOL_PLAIN = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
CALL_NAME = "c.function.name"
HERMES_TOOLS = (
    "{%- if tools %}{{ '<|im_start|>system\n' + (messages[0].content + '\n\n' if messages[0].role == 'system' else '') + '# Tools\n<tools>' }}"
    "{%- for t in tools %}{{ '\n' }}{{ t | tojson }}{%- endfor %}{{ '\n</tools><|im_end|>\n' }}"
    "{%- elif messages[0].role == 'system' %}{{ '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}{%- endif %}"
)
HERMES_CALLS = (
    "{%- for c in m.tool_calls %}{{ ('\n' if text or not loop.first else '') + '<tool_call>\n{\"name\": \"' + c.function.name + '\", \"arguments\": ' }}"
    "{{ c.function.arguments | tojson }}{{ '}\n</tool_call>' }}{%- endfor %}"
)
HERMES_RESULT = (
    "{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{%- endif %}"
    "{{ '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{%- endif %}"
)
CHATML_PROMPT = "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"

TOOL_FAMILIES = {
    "llama3.1": Family(  # the tools are in the first user turn; one call in a turn, and no text beside it
        "{{ bos_token }}{%- set ns = namespace(told=not tools) %}"
        + TURN
        + "{%- if m.tool_calls %}{%- if m.tool_calls | length > 1 %}{{ raise_exception('one call at a time') }}{%- endif %}{%- set c = m.tool_calls[0].function %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n{\"name\": \"' + c.name + '\", \"parameters\": ' }}{{ c.arguments | tojson }}{{ '}<|eot_id|>' }}"
        "{%- elif m.role == 'tool' %}{{ '<|start_header_id|>ipython<|end_header_id|>\n\n' }}{{ m.content | tojson }}{{ '<|eot_id|>' }}"
        "{%- else %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}{%- if m.role == 'user' and not ns.told %}{%- set ns.told = true %}"
        "{{ 'Functions:\n' }}{%- for t in tools %}{{ t | tojson(indent=4) }}{{ '\n\n' }}{%- endfor %}{%- endif %}{{ m.content | trim + '<|eot_id|>' }}{%- endif %}"
        "{%- endfor %}{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}",
        "<|end_of_text|>",
        "<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|begin_of_text|>",
    ),
    "qwen2.5": Family(
        HERMES_TOOLS
        + TURN
        + "{%- set text = m.content %}{%- if m.tool_calls %}{{ '<|im_start|>assistant\n' + text }}"
        + HERMES_CALLS
        + "{{ '<|im_end|>\n' }}"
        "{%- elif m.role == 'tool' %}"
        + HERMES_RESULT
        + "{%- elif m.role != 'system' %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}"
        "{%- endfor %}" + CHATML_PROMPT,
        "<|endoftext|>",
        "<|im_end|>",
        "<|im_start|>assistant\n",
        plain=TOOL_PLAIN,
    ),
    "qwen3": Family(  # thinking is left out before the last user turn
        LAST_USER
        + HERMES_TOOLS
        + TURN
        + "{%- if m.role == 'assistant' %}"
        + SPLIT
        + "{%- if m.reasoning_content is string %}{%- set think = m.reasoning_content %}{%- endif %}{{ '<|im_start|>assistant\n' }}"
        "{%- if loop.index0 > ns.last and (loop.last or think) %}{{ '<think>\n' + think.strip('\n') + '\n</think>\n\n' }}{%- endif %}{{ text }}"
        "{%- if m.tool_calls %}"
        + HERMES_CALLS
        + "{%- endif %}{{ '<|im_end|>\n' }}{%- elif m.role == 'tool' %}"
        + HERMES_RESULT
        + "{%- elif m.role != 'system' %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
        + CHATML_PROMPT,
        "<|im_end|>",
        "<|im_end|>",
        "<|im_start|>assistant\n",
        plain=TOOL_PLAIN,
    ),
    "qwen3.5": Family(  # the generation prompt opens the thinking; a call is XML
        LAST_USER
        + HERMES_TOOLS
        + TURN
        + "{%- if m.role == 'assistant' %}"
        + SPLIT
        + "{%- if m.reasoning_content is string %}{%- set think = m.reasoning_content %}{%- endif %}{{ '<|im_start|>assistant\n' }}"
        "{%- if loop.index0 > ns.last %}{{ '<think>\n' + think + '\n</think>\n\n' }}{%- endif %}{{ text }}"
        "{%- for c in m.tool_calls or [] %}{{ '\n<tool_call>\n<function=' + c.function.name + '>\n' }}{%- for k, v in c.function.arguments | items %}"
        "{{ '<parameter=' + k + '>\n' + (v if v is string else v | tojson) + '\n</parameter>\n' }}{%- endfor %}{{ '</function>\n</tool_call>' }}{%- endfor %}"
        "{{ '<|im_end|>\n' }}{%- elif m.role == 'tool' %}"
        + HERMES_RESULT
        + "{%- elif m.role != 'system' %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{%- endif %}",
        "<|im_end|>",
        "<|im_end|>",
        "<|im_start|>assistant\n",
        plain=TOOL_PLAIN,
    ),
    "mistral": Family(  # the tools move into the last user turn; calls need an id of nine characters; no text beside them
        LAST_USER
        + "{{ bos_token }}"
        + TURN
        + "{%- if m.role == 'user' %}{%- if tools and loop.index0 == ns.last %}{{ '[AVAILABLE_TOOLS] ' }}{{ tools | tojson }}{{ '[/AVAILABLE_TOOLS]' }}{%- endif %}"
        "{{ '[INST] ' + m.content + '[/INST]' }}{%- elif m.tool_calls %}{{ '[TOOL_CALLS] [' }}{%- for c in m.tool_calls %}"
        "{%- if c.id is not defined or c.id | length != 9 %}{{ raise_exception('an id has nine characters') }}{%- endif %}"
        "{{ '{\"name\": \"' + c.function.name + '\", \"arguments\": ' }}{{ c.function.arguments | tojson }}{{ ', \"id\": \"' + c.id + '\"}' + ('' if loop.last else ', ') }}"
        "{%- endfor %}{{ ']' + eos_token }}{%- elif m.role == 'tool' %}{{ '[TOOL_RESULTS] {\"content\": ' }}{{ m.content | tojson }}"
        "{{ ', \"call_id\": \"' + m.tool_call_id + '\"}[/TOOL_RESULTS]' }}{%- elif m.role == 'assistant' %}{{ ' ' + m.content | trim + eos_token }}{%- endif %}{%- endfor %}",
        "</s>",
        "</s>",
        "[/INST]",
        "<s>",
        plain=(),
        special=(
            "[INST]",
            "[/INST]",
            "[TOOL_CALLS]",
            "[AVAILABLE_TOOLS]",
            "[/AVAILABLE_TOOLS]",
            "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]",
        ),
    ),
    "gpt-oss": Family(  # one call in a turn, thinking in a channel of its own, the last answer ends otherwise than the others
        "{{ '<|start|>system<|message|>Be kind.<|end|>' }}{%- if tools %}{{ '<|start|>developer<|message|># Tools\n' }}{%- for t in tools %}"
        "{{ 'type ' + t.function.name + ' = (_: {' }}{%- for k, v in t.function.parameters.properties | items %}{{ k + ': ' + (v.type or 'any') + ', ' }}{%- endfor %}"
        "{{ '}) => any;\n' }}{%- endfor %}{{ '<|end|>' }}{%- endif %}{%- set ns = namespace(called='') %}"
        + TURN
        + "{%- if m.tool_calls %}{%- set c = m.tool_calls[0].function %}{%- set ns.called = c.name %}"
        "{%- if m.thinking %}{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{%- endif %}"
        "{%- if m.content %}{{ '<|start|>assistant<|channel|>commentary<|message|>' + m.content + '<|end|>' }}{%- endif %}"
        "{{ '<|start|>assistant to=functions.' + c.name + '<|channel|>commentary json<|message|>' }}{{ c.arguments | tojson }}{{ '<|call|>' }}"
        "{%- elif m.role == 'tool' %}{%- if not ns.called %}{{ raise_exception('no call') }}{%- endif %}"
        "{{ '<|start|>functions.' + ns.called + ' to=assistant<|channel|>commentary<|message|>' }}{{ m.content | tojson }}{{ '<|end|>' }}"
        "{%- elif m.role == 'assistant' %}{%- if loop.last and m.thinking %}{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{%- endif %}"
        "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last else '<|end|>') }}"
        "{%- else %}{{ '<|start|>' + ('developer' if m.role == 'system' else m.role) + '<|message|>' + m.content + '<|end|>' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{%- endif %}",
        "<|return|>",
        "<|return|>",
        "<|start|>assistant<|channel|>final<|message|>",
    ),
    "glm": Family(  # the header of the next turn ends a turn, that of a result ends a call
        LAST_USER
        + "[gMASK]<sop>{%- if tools %}{{ '<|system|>\n# Tools' }}{%- for t in tools %}{{ '\n' }}{{ t | tojson }}{%- endfor %}{%- endif %}"
        + TURN
        + "{%- if m.role == 'assistant' %}{{ '<|assistant|>' }}{%- if loop.index0 > ns.last and m.reasoning_content %}{{ '\n<think>' + m.reasoning_content + '</think>' }}"
        "{%- else %}{{ '\n<think></think>' }}{%- endif %}{%- if m.content.strip() %}{{ '\n' + m.content.strip() }}{%- endif %}"
        "{%- for c in m.tool_calls or [] %}{{ '\n<tool_call>' + c.function.name + '\n' }}{%- for k, v in c.function.arguments | items %}"
        "{{ '<arg_key>' + k + '</arg_key>\n<arg_value>' + (v if v is string else v | tojson) + '</arg_value>\n' }}{%- endfor %}{{ '</tool_call>' }}{%- endfor %}"
        "{%- elif m.role == 'tool' %}{%- if messages[loop.index0 - 1].role != 'tool' %}{{ '<|observation|>' }}{%- endif %}"
        "{{ '\n<tool_response>\n' + m.content + '\n</tool_response>' }}{%- else %}{{ '<|' + m.role + '|>\n' + m.content }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ '<|assistant|>' }}{%- endif %}",
        "<|endoftext|>",
        "<|user|>",
        "<|assistant|>",
        plain=(*TOOL_PLAIN, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    ),
    "deepseek": Family(  # arguments are JSON already; an answer follows a result without a header; thinking is left out
        "{{ bos_token }}{%- for t in tools or [] %}{{ '\n' }}{{ t | tojson }}{%- endfor %}"
        + TURN
        + "{%- if m.role == 'system' %}{{ m.content }}{%- elif m.role == 'user' %}{{ '<|User|>' + m.content }}{%- elif m.role == 'tool' %}"
        "{%- if messages[loop.index0 - 1].role != 'tool' %}{{ '<|outputs_begin|>' }}{%- endif %}{{ '<|output_begin|>' + m.content + '<|output_end|>' }}"
        "{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|outputs_end|>' }}{%- endif %}"
        "{%- else %}{%- if messages[loop.index0 - 1].role != 'tool' %}{{ '<|Assistant|>' }}{%- endif %}{{ m.content.split('</think>')[-1] }}"
        "{%- if m.tool_calls %}{{ '<|calls_begin|>' }}{%- for c in m.tool_calls %}{{ '<|call_begin|>' + c.type + '<|sep|>' + c.function.name + '\n```json\n'"
        " + c.function.arguments + '\n```<|call_end|>' }}{%- endfor %}{{ '<|calls_end|>' }}{%- endif %}{{ eos_token }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt and messages[-1].role != 'tool' %}{{ '<|Assistant|><think>\n' }}{%- endif %}",
        "<|end of sentence|>",
        "<|end of sentence|>",
        "<|Assistant|>",
        "<|begin of sentence|>",
    ),
}
NO_TEXT_BESIDE_CALLS = {"llama3.1", "mistral"}
ONE_CALL = {"llama3.1", "gpt-oss"}
THINKING = {"qwen3", "qwen3.5", "gpt-oss", "glm"}
TOOL_TOKENIZERS = {
    (name, kind): make_tokenizer(family, kind)
    for name, family in TOOL_FAMILIES.items()
    for kind in ("byte-level", "sentencepiece")
}
