#include "python/model.h"

#include <optional>
#include <string>
#include <utility>

#include "engine/grammar.h"
#include "engine/llama_model.h"
#include "engine/versions.h"
#include "python/errors.h"
#include "python/handles.h"
#include "python/lora.h"
#include "python/model_arguments.h"
#include "python/request.h"
#include "python/request_options.h"
#include "python/wait.h"
#include "scheduler/shared_model.h"

namespace syncyte::python {

namespace {

// A user's hold on a model, or with none what is left after close().
class ModelHandle final : public Handle {
  public:
    explicit ModelHandle(Ref<SharedModel> model) : Handle(HandleKind::kModel), model_(std::move(model)) {}

    [[nodiscard]] const Ref<SharedModel>& model() const { return model_; }

  private:
    const Ref<SharedModel> model_;
};

Ref<ModelHandle> handle_of_self(PyObject* object) {
    return Ref<ModelHandle>::share(
        static_cast<ModelHandle*>(reinterpret_cast<HandleObject*>(object)->handle));
}

// A reference of one's own, so that close() in another thread takes nothing away. Null with ClosedError set.
Ref<SharedModel> opened(PyObject* object) {
    Ref<SharedModel> model = handle_of_self(object)->model();
    if (!model) {
        const ModuleState* state = state_of_type(Py_TYPE(object));
        if (state != nullptr) raise_error(*state, Error(ErrorCode::kClosed, "the model is closed"));
    }
    return model;
}

PyObject* raise_for(PyObject* object, const Error& error) {
    const ModuleState* state = state_of_type(Py_TYPE(object));
    return state == nullptr ? nullptr : raise_error(*state, error);
}

PyObject* str_of(const std::string& bytes) {
    return PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace");
}

// What syncyte.Model(...) hands on, in this order: None where the user said nothing.
struct OpenArguments {
    PyObject* context_length = nullptr;
    PyObject* max_sequences = nullptr;
    PyObject* cache_tokens = nullptr;
    PyObject* threads = nullptr;
    PyObject* max_waiting = nullptr;
    PyObject* kv_type = nullptr;
    PyObject* flash_attention = nullptr;
    PyObject* kv_unified = nullptr;
    PyObject* draft_model = nullptr;
    PyObject* gpu_layers = nullptr;
    PyObject* devices = nullptr;
    PyObject* rpc = nullptr;
};

bool read_cache_types(PyObject* object, std::optional<CacheTypes>& value) {
    if (object == Py_None) return true;
    const auto text = text_of(object, "kv_type");
    if (!text) return false;
    value = cache_types_named(*text);
    if (value) return true;
    PyErr_Format(
        PyExc_ValueError,
        "kv_type must be \"f16\", \"f32\", \"q8_0\" or \"q4_0\", or two of them for keys and values, as "
        "in \"q8_0,f16\"; not %R",
        object);
    return false;
}

bool optional_path(PyObject* object, const char* name, std::optional<std::string>& value) {
    if (object == Py_None) return true;
    PyObject* bytes = nullptr;
    if (PyUnicode_FSConverter(object, static_cast<void*>(&bytes)) == 0) {
        if (PyErr_ExceptionMatches(PyExc_TypeError) != 0) {
            PyErr_Format(PyExc_TypeError, "%s must be str, os.PathLike or None, not %T", name, object);
        }
        return false;
    }
    value.emplace(PyBytes_AS_STRING(bytes), static_cast<std::size_t>(PyBytes_GET_SIZE(bytes)));
    Py_DECREF(bytes);
    return true;
}

bool read_model_options(const OpenArguments& given, ModelOptions& options) {
    std::optional<bool> flash;
    std::optional<bool> unified;
    if (!optional_int(given.context_length, "context_length", options.context_length) ||
        !optional_int(given.max_sequences, "max_sequences", options.max_sequences) ||
        !optional_int(given.cache_tokens, "cache_tokens", options.cache_tokens) ||
        !optional_int(given.threads, "threads", options.threads) ||
        !optional_int(given.max_waiting, "max_waiting", options.max_waiting) ||
        !read_cache_types(given.kv_type, options.cache_types) ||
        !optional_bool(given.flash_attention, "flash_attention", flash) ||
        !optional_bool(given.kv_unified, "kv_unified", unified) ||
        !optional_path(given.draft_model, "draft_model", options.draft_model) ||
        !optional_int(given.gpu_layers, "gpu_layers", options.gpu_layers) ||
        !optional_texts(given.devices, "devices", options.devices) ||
        !optional_texts(given.rpc, "rpc", options.rpc)) {
        return false;
    }
    if (flash) options.flash_attention = *flash ? FlashAttention::kOn : FlashAttention::kOff;
    if (unified) options.layout = *unified ? CacheLayout::kUnified : CacheLayout::kSeparate;
    return true;
}

PyObject* model_new(PyTypeObject* type, PyObject* args, PyObject* /*keywords*/) {
    PyObject* path_bytes = nullptr;
    OpenArguments given;
    if (PyArg_ParseTuple(args, "O&OOOOOOOOOOOO:Model", PyUnicode_FSConverter, &path_bytes,
                         &given.context_length, &given.max_sequences, &given.cache_tokens, &given.threads,
                         &given.max_waiting, &given.kv_type, &given.flash_attention, &given.kv_unified,
                         &given.draft_model, &given.gpu_layers, &given.devices, &given.rpc) == 0) {
        return nullptr;
    }
    const std::string path(PyBytes_AS_STRING(path_bytes),
                           static_cast<std::size_t>(PyBytes_GET_SIZE(path_bytes)));
    Py_DECREF(path_bytes);
    ModelOptions options;
    if (!read_model_options(given, options)) return nullptr;
    Result<Ref<SharedModel>> model = [&] {
        const Detached detached;
        return SharedModel::open(path, options);
    }();
    const ModuleState* state = state_of_type(type);
    if (state == nullptr) return nullptr;
    if (!model) return raise_error(*state, model.error());
    return new_handle_object(type, make_ref<ModelHandle>(std::move(*model)));
}

PyObject* list_of(const std::vector<Token>& tokens) {
    PyObject* list = PyList_New(static_cast<Py_ssize_t>(tokens.size()));
    for (std::size_t i = 0; list != nullptr && i < tokens.size(); ++i) {
        PyObject* number = PyLong_FromLong(tokens[i]);
        if (number == nullptr)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), number);
    }
    return list;
}

PyObject* model_tokenize(PyObject* object, PyObject* args) {
    PyObject* text = nullptr;
    int add = 0;
    int parse = 0;
    if (PyArg_ParseTuple(args, "Opp", &text, &add, &parse) == 0) return nullptr;
    const Ref<SharedModel> model = opened(object);
    if (!model) return nullptr;
    const auto bytes = text_of(text, "the text");
    if (!bytes) return nullptr;
    const Result<std::vector<Token>> tokens = [&] {
        const Detached detached;
        return model->model().tokenize(*bytes, AddSpecial{add != 0}, ParseSpecial{parse != 0});
    }();
    return tokens ? list_of(*tokens) : raise_for(object, tokens.error());
}

PyObject* model_detokenize(PyObject* object, PyObject* argument) {
    const Ref<SharedModel> model = opened(object);
    if (!model) return nullptr;
    const auto tokens = tokens_of(argument, model->model());
    if (!tokens) return nullptr;
    const Result<std::string> text = model->model().detokenize(*tokens);
    return text ? str_of(*text) : raise_for(object, text.error());
}

// `prompt` is text, tokenised here, or tokens.
std::optional<std::vector<Token>> prompt_of(PyObject* object, const Model& model, PyObject* prompt) {
    if (!PyUnicode_Check(prompt)) {
        if (PyList_Check(prompt) || PyTuple_Check(prompt)) return tokens_of(prompt, model);
        PyErr_Format(PyExc_TypeError, "prompt must be str or a list of tokens, not %T", prompt);
        return std::nullopt;
    }
    const auto text = text_of(prompt, "prompt");
    if (!text) return std::nullopt;
    Result<std::vector<Token>> tokens = [&] {
        const Detached detached;
        return model.tokenize(*text, AddSpecial::kYes, ParseSpecial::kYes);
    }();
    if (!tokens) {
        raise_for(object, tokens.error());
        return std::nullopt;
    }
    return std::move(*tokens);
}

bool known_token(const Model& model, Token token, const char* where) {
    const int most = model.info().vocabulary_size - 1;
    if (token >= 0 && token <= most) return true;
    PyErr_Format(PyExc_ValueError, "%s has token %d, which is not in the vocabulary (0 to %d)", where,
                 static_cast<int>(token), most);
    return false;
}

PyObject* model_submit(PyObject* object, PyObject* args) {
    PyObject* prompt = nullptr;
    PyObject* given = nullptr;
    if (PyArg_ParseTuple(args, "OO!", &prompt, &PyDict_Type, &given) == 0) return nullptr;
    const Ref<SharedModel> model = opened(object);
    if (!model) return nullptr;
    RequestOptions options;
    std::string grammar;
    if (!read_request_options(given, options, grammar)) return nullptr;
    if (!grammar.empty()) {
        Result<std::shared_ptr<GrammarMachine>> machine = [&] {
            const Detached detached;
            return model->grammar(grammar);
        }();
        if (!machine) return raise_for(object, machine.error());
        options.grammar = std::move(*machine);
    }
    for (const Token token : options.stop_tokens) {
        if (!known_token(model->model(), token, "stop_tokens")) return nullptr;
    }
    for (const auto& [token, bias] : options.sampling.logit_bias) {
        if (!known_token(model->model(), token, "logit_bias")) return nullptr;
    }
    auto tokens = prompt_of(object, model->model(), prompt);
    if (!tokens) return nullptr;
    options.prompt = std::move(*tokens);
    Result<Ref<Request>> request = model->submit(std::move(options));
    if (!request) return raise_for(object, request.error());
    ModuleState* state = state_of_type(Py_TYPE(object));
    return state == nullptr ? nullptr : wrap_request(*state, std::move(*request));
}

PyObject* model_apply_template(PyObject* object, PyObject* args) {
    PyObject* roles = nullptr;
    PyObject* contents = nullptr;
    const char* chat_template = nullptr;
    int add_generation_prompt = 0;
    if (PyArg_ParseTuple(args, "sOOp", &chat_template, &roles, &contents, &add_generation_prompt) == 0) {
        return nullptr;
    }
    const Ref<SharedModel> model = opened(object);
    if (!model) return nullptr;
    auto role_texts = texts_of(roles, "a role");
    if (!role_texts) return nullptr;
    auto content_texts = texts_of(contents, "a message");
    if (!content_texts) return nullptr;
    if (role_texts->size() != content_texts->size()) {
        PyErr_SetString(PyExc_ValueError, "each message needs a role and a content");
        return nullptr;
    }
    std::vector<ChatMessage> messages;
    messages.reserve(role_texts->size());
    for (std::size_t i = 0; i < role_texts->size(); ++i) {
        messages.push_back({std::move((*role_texts)[i]), std::move((*content_texts)[i])});
    }
    const Result<std::string> text =
        model->model().apply_template(chat_template, messages, add_generation_prompt != 0);
    return text ? str_of(*text) : raise_for(object, text.error());
}

// Steals `value`.
bool set_item(PyObject* dict, const char* key, PyObject* value) {
    const bool done = value != nullptr && PyDict_SetItemString(dict, key, value) == 0;
    Py_XDECREF(value);
    return done;
}

PyObject* model_info(PyObject* object, PyObject*) {
    const Ref<SharedModel> model = opened(object);
    if (!model) return nullptr;
    const ModelInfo& info = model->model().info();
    PyObject* dict = PyDict_New();
    if (dict == nullptr) return nullptr;
    const std::pair<const char*, const std::string*> texts[] = {
        {"path", &model->path()},
        {"name", &info.name},
        {"architecture", &info.architecture},
        {"description", &info.description},
        {"quantization", &info.quantization},
        {"chat_template", &info.chat_template},
        {"rerank_template", &info.rerank_template},
        {"bos_text", &info.bos_text},
        {"eos_text", &info.eos_text},
    };
    const std::pair<const char*, std::uint64_t> numbers[] = {
        {"parameters", info.parameters},
        {"size_bytes", info.bytes},
        {"vocabulary_size", static_cast<std::uint64_t>(info.vocabulary_size)},
        {"embedding_length", static_cast<std::uint64_t>(info.embedding_length)},
        {"layers", static_cast<std::uint64_t>(info.layers)},
        {"heads", static_cast<std::uint64_t>(info.heads)},
        {"kv_heads", static_cast<std::uint64_t>(info.kv_heads)},
        {"trained_context_length", static_cast<std::uint64_t>(info.trained_context)},
        {"context_length", static_cast<std::uint64_t>(model->limits().context_length)},
        {"max_sequences", static_cast<std::uint64_t>(model->limits().max_sequences)},
        {"cache_tokens", static_cast<std::uint64_t>(model->limits().cells)},
        {"threads", static_cast<std::uint64_t>(model->threads())},
    };
    const FlashAttention flash = model->flash_attention();
    PyObject* flash_wanted =
        flash == FlashAttention::kAuto ? Py_NewRef(Py_None) : PyBool_FromLong(flash == FlashAttention::kOn);
    bool good = set_item(dict, "flash_attention", flash_wanted);
    const bool unified = model->limits().layout == CacheLayout::kUnified;
    good = good && set_item(dict, "kv_unified", PyBool_FromLong(unified ? 1 : 0));
    good = good && set_item(dict, "generates", PyBool_FromLong(info.generates ? 1 : 0));
    good = good && set_item(dict, "pooling", PyUnicode_FromString(to_string(info.pooling)));
    const std::string& draft = model->draft_path();
    good = good && set_item(dict, "draft_model", draft.empty() ? Py_NewRef(Py_None) : str_of(draft));
    good = good && set_item(dict, "kv_type", str_of(to_string(model->cache_types())));
    good = good && set_item(dict, "adds_bos", PyBool_FromLong(info.adds_bos ? 1 : 0));
    for (const auto& [key, text] : texts) good = good && set_item(dict, key, str_of(*text));
    for (const auto& [key, number] : numbers) {
        good = good && set_item(dict, key, PyLong_FromUnsignedLongLong(number));
    }
    if (!good) Py_CLEAR(dict);
    return dict;
}

// Those control tokens' texts that occur in `text`.
PyObject* model_control_texts(PyObject* object, PyObject* argument) {
    const Ref<SharedModel> model = opened(object);
    if (!model) return nullptr;
    const auto text = text_of(argument, "the text");
    if (!text) return nullptr;
    PyObject* list = PyList_New(0);
    for (const std::string& control : model->model().control_texts()) {
        if (list == nullptr || !text->contains(control)) continue;
        PyObject* item = str_of(control);
        if (item == nullptr || PyList_Append(list, item) < 0) Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

PyObject* model_stats(PyObject* object, PyObject*) {
    const Ref<SharedModel> model = opened(object);
    if (!model) return nullptr;
    const SchedulerStats stats = model->stats();
    const auto microseconds = [](Clock::duration time) {
        return std::int64_t{std::chrono::duration_cast<std::chrono::microseconds>(time).count()};
    };
    const std::pair<const char*, std::int64_t> numbers[] = {
        {"running", stats.running},
        {"waiting", stats.waiting},
        {"paused", stats.paused},
        {"cells", stats.cells},
        {"used_cells", stats.cell_use.used},
        {"shared_cells", stats.cell_use.shared},
        {"pinned_cells", stats.cell_use.pinned},
        {"free_cells", stats.cell_use.free},
        {"reserved_cells", stats.reserved_cells},
        {"parked_tokens", static_cast<std::int64_t>(stats.parked_tokens)},
        {"kept_cells", stats.kept_cells},
        {"evictions", static_cast<std::int64_t>(stats.evictions)},
        {"pauses", static_cast<std::int64_t>(stats.pauses)},
        {"reused_tokens", static_cast<std::int64_t>(stats.reused_tokens)},
        {"drafted_tokens", static_cast<std::int64_t>(stats.drafted_tokens)},
        {"accepted_tokens", static_cast<std::int64_t>(stats.accepted_tokens)},
        {"computed_tokens", static_cast<std::int64_t>(stats.rows)},
        {"steps", static_cast<std::int64_t>(stats.steps)},
        {"threads", stats.threads},
        {"busy_microseconds", microseconds(stats.busy)},
        {"computing_microseconds", microseconds(stats.computing)},
    };
    PyObject* dict = PyDict_New();
    if (dict != nullptr && !set_item(dict, "draft_error", str_of(stats.draft_error))) Py_CLEAR(dict);
    for (const auto& [key, number] : numbers) {
        if (dict != nullptr && !set_item(dict, key, PyLong_FromLongLong(number))) Py_CLEAR(dict);
    }
    return dict;
}

PyObject* model_prefix(PyObject* object, PyObject* args) {
    PyObject* prompt = nullptr;
    PyObject* salt = nullptr;
    PyObject* lora = nullptr;
    int pin = 0;
    if (PyArg_ParseTuple(args, "OpOO", &prompt, &pin, &salt, &lora) == 0) return nullptr;
    const Ref<SharedModel> model = opened(object);
    if (!model) return nullptr;
    RequestOptions options;
    if (!read_lora(lora, options.adapter)) return nullptr;
    const auto salt_text = text_of(salt, "cache_salt");
    if (!salt_text) return nullptr;
    auto tokens = prompt_of(object, model->model(), prompt);
    if (!tokens) return nullptr;
    options.prompt = std::move(*tokens);
    options.max_tokens = 1;
    options.cache_salt = *salt_text;
    options.purpose = pin != 0 ? Purpose::kPinnedPrefix : Purpose::kPrefix;
    Result<Ref<Request>> request = model->submit(std::move(options));
    if (!request) return raise_for(object, request.error());
    ModuleState* state = state_of_type(Py_TYPE(object));
    return state == nullptr ? nullptr : wrap_request(*state, std::move(*request));
}

// Tokens of each text, or the tokens that stand there already; the texts are borrowed from the list.
std::optional<EmbeddingJob::Texts> embedded_texts(PyObject* object, const Model& model, PyObject* list) {
    EmbeddingJob::Texts texts(static_cast<std::size_t>(PyList_GET_SIZE(list)));
    std::vector<std::string_view> bytes(texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i) {
        PyObject* item = PyList_GET_ITEM(list, static_cast<Py_ssize_t>(i));
        if (PyList_Check(item)) {
            auto tokens = tokens_of(item, model);
            if (!tokens) return std::nullopt;
            texts[i] = std::move(*tokens);
        } else if (const auto text = text_of(item, "a text")) {
            bytes[i] = *text;
        } else {
            return std::nullopt;
        }
    }
    const Result<void> done = [&]() -> Result<void> {
        const Detached detached;
        for (std::size_t i = 0; i < texts.size(); ++i) {
            if (bytes[i].data() == nullptr) continue;
            auto tokens = model.tokenize(bytes[i], AddSpecial::kYes, ParseSpecial::kNo);
            if (!tokens) return std::unexpected(std::move(tokens.error()));
            texts[i] = std::move(*tokens);
        }
        return {};
    }();
    if (done) return texts;
    raise_for(object, done.error());
    return std::nullopt;
}

PyObject* model_embed(PyObject* object, PyObject* args) {
    PyObject* list = nullptr;
    const char* name = nullptr;
    int normalized = 0;
    if (PyArg_ParseTuple(args, "O!sp", &PyList_Type, &list, &name, &normalized) == 0) return nullptr;
    const Ref<SharedModel> model = opened(object);
    if (!model) return nullptr;
    const auto pooling = pooling_named(name);
    if (!pooling) {
        PyErr_Format(PyExc_ValueError, "there is no pooling \"%s\"", name);
        return nullptr;
    }
    auto texts = embedded_texts(object, model->model(), list);
    if (!texts) return nullptr;
    Result<Ref<EmbeddingJob>> job = model->embed(std::move(*texts), *pooling, Normalize{normalized != 0});
    if (!job) return raise_for(object, job.error());
    ModuleState* state = state_of_type(Py_TYPE(object));
    return state == nullptr ? nullptr : wrap_request(*state, std::move(*job));
}

PyObject* model_pair(PyObject* object, PyObject* args) {
    PyObject* query = nullptr;
    PyObject* document = nullptr;
    if (PyArg_ParseTuple(args, "OO", &query, &document) == 0) return nullptr;
    const Ref<SharedModel> model = opened(object);
    if (!model) return nullptr;
    const auto query_text = text_of(query, "query");
    if (!query_text) return nullptr;
    const auto document_text = text_of(document, "a document");
    if (!document_text) return nullptr;
    const Result<std::vector<Token>> tokens = model->model().tokenize_pair(*query_text, *document_text);
    return tokens ? list_of(*tokens) : raise_for(object, tokens.error());
}

PyObject* model_lora(PyObject* object, PyObject* args) {
    PyObject* path_bytes = nullptr;
    float scale = 0;
    if (PyArg_ParseTuple(args, "O&f", PyUnicode_FSConverter, &path_bytes, &scale) == 0) return nullptr;
    const std::string path(PyBytes_AS_STRING(path_bytes),
                           static_cast<std::size_t>(PyBytes_GET_SIZE(path_bytes)));
    Py_DECREF(path_bytes);
    const Ref<SharedModel> model = opened(object);
    if (!model) return nullptr;
    Result<std::shared_ptr<const Adapter>> weights = [&] {
        const Detached detached;
        return model->adapter(path);
    }();
    if (!weights) return raise_for(object, weights.error());
    ModuleState* state = state_of_type(Py_TYPE(object));
    if (state == nullptr) return nullptr;
    return make_lora(*state, model->again(), {.weights = std::move(*weights), .scale = scale}, path);
}

PyObject* model_close(PyObject* object, PyObject*) {
    // Others may hold the same handle: only this object lets go.
    Ref<Handle> closed = make_ref<ModelHandle>(nullptr);
    const auto dropped =
        Ref<Handle>::adopt(std::exchange(reinterpret_cast<HandleObject*>(object)->handle, closed.leak()));
    Py_RETURN_NONE;
}

PyObject* model_closed(PyObject* object, void*) {
    return PyBool_FromLong(handle_of_self(object)->model() ? 0 : 1);
}

PyObject* versions(PyObject*, PyObject*) {
    const EngineVersions found = engine_versions();
    return Py_BuildValue("{s:s,s:s,s:s,s:s,s:s}", "libllama", found.libllama.c_str(), "libllama_build",
                         found.libllama_build.c_str(), "ggml", found.ggml.c_str(), "system",
                         found.system.c_str(), "attention", found.attention.c_str());
}

PyObject* count_open_models(PyObject*, PyObject*) { return PyLong_FromSize_t(open_models()); }

PyObject* count_open_adapters(PyObject*, PyObject*) { return PyLong_FromSize_t(open_adapters()); }

PyObject* check_grammar(PyObject* module, PyObject* argument) {
    const auto text = text_of(argument, "the grammar");
    if (!text) return nullptr;
    const auto grammar = parse_grammar(*text);
    if (!grammar) return raise_error(state_of(module), grammar.error());
    Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"_tokenize", model_tokenize, METH_VARARGS, "_tokenize(text, add_special, parse_special)"},
    {"_detokenize", model_detokenize, METH_O, "_detokenize(tokens)"},
    {"_submit", model_submit, METH_VARARGS, "_submit(prompt, options): options as checked by _options"},
    {"_embed", model_embed, METH_VARARGS,
     "_embed(texts, pooling, normalize): a request; texts are str, or lists of tokens"},
    {"_pair", model_pair, METH_VARARGS, "_pair(query, document): their tokens in one text"},
    {"_apply_template", model_apply_template, METH_VARARGS,
     "_apply_template(chat_template, roles, contents, add_generation_prompt)"},
    {"_info", model_info, METH_NOARGS, "_info()"},
    {"_control_texts", model_control_texts, METH_O, "_control_texts(text)"},
    {"_prefix", model_prefix, METH_VARARGS, "_prefix(prompt, pin, cache_salt, lora)"},
    {"_lora", model_lora, METH_VARARGS, "_lora(path, scale)"},
    {"_stats", model_stats, METH_NOARGS, "_stats()"},
    {"close", model_close, METH_NOARGS,
     "close()\n--\n\nLets the model go; the last user's close frees the weights. Running requests go on."},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef getters[] = {
    {"closed", model_closed, nullptr, "Whether close() was called.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char*>("What syncyte.Model is made of.")},
    {Py_tp_new, reinterpret_cast<void*>(model_new)},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {0, nullptr},
};

PyType_Spec spec = {
    .name = "syncyte._core.Model",
    .basicsize = sizeof(HandleObject),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

PyMethodDef functions[] = {
    {"_check_grammar", check_grammar, METH_O, "_check_grammar(text): ValueError says what is wrong with it."},
    {"_open_models", count_open_models, METH_NOARGS, "How many models have their weights in memory."},
    {"_open_adapters", count_open_adapters, METH_NOARGS, "How many LoRA adapters are in memory."},
    {"_engine_versions", versions, METH_NOARGS, "Versions of libllama and ggml."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

int register_model(PyObject* module, ModuleState& state) {
    if (PyModule_AddFunctions(module, functions) < 0) return -1;
    return add_handle_type(module, state, spec, HandleKind::kModel, "syncyte._model") == nullptr ? -1 : 0;
}

}  // namespace syncyte::python
